"""Texts against true texts: how they are compared, and what the metrics of kind `text` give.

Such a metric offers `of_texts(true, found, *, ...) -> Rate` of two lists of N strings; keyword-only parameters are its arguments on the command line.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from cvtool.errors import UsageError
from cvtool.metrics._edit_distance import Edit, script

FORMS: dict[str, Literal["NFC", "NFKC"] | None] = {"nfc": "NFC", "nfkc": "NFKC", "none": None}
MOST = 30  # confusions in the report


@dataclass
class Rate:
    """A ratio of sums over N texts. above, below: N, of each key. counts: whole numbers for the report; confusions: (true, found, how often)."""

    key: str
    above: np.ndarray
    below: np.ndarray
    counts: dict[str, int] = field(default_factory=dict)
    confusions: list[dict[str, Any]] = field(default_factory=list)


def comparable(case: bool, alnum: bool, unicode: str, metric: str) -> Callable[[str], str]:
    """The form in which texts are compared. Raises UsageError.

    case: capitals count. alnum: only ASCII letters and digits count, as scene text is compared (Shi 2015, arXiv:1507.05717, 3.1). unicode: nfc makes
    one character of a letter and its accent, nfkc also of what looks alike (full-width letters, ligatures). White space at both ends never counts.
    """
    if unicode not in FORMS:
        raise UsageError(f"--metric {metric}: unicode={unicode} is no form", hint=f"known: {', '.join(FORMS)}")

    @lru_cache(1 << 16)
    def form(text: str) -> str:
        if not text.isascii() and (name := FORMS[unicode]) is not None:
            text = unicodedata.normalize(name, text)
        if not case:
            text = text.lower()
        if alnum:
            text = "".join(one for one in text if one.isascii() and (one.isalnum() or one.isspace()))
        return text.strip()

    return form


def edits_of(
    key: str, words: tuple[str, str], true: Sequence[Sequence[Hashable]], found: Sequence[Sequence[Hashable]], confusions: bool = False
) -> Rate:
    """Edits over length. words: what is counted, one and many (`character`, `characters`), which also names the counts."""
    known: dict[tuple[Any, Any], list[Edit]] = {}
    sums: Counter[str] = Counter()
    pairs: Counter[tuple[Any, Any]] = Counter()
    above = np.zeros(len(true))
    for i, (one, other) in enumerate(zip(true, found, strict=True)):
        if one == other:
            continue
        edits = known.get((one, other))
        if edits is None:
            edits = known[one, other] = script(one, other)
        above[i] = len(edits)
        gone, new = sum(edit.found is None for edit in edits), sum(edit.true is None for edit in edits)
        sums["deletions"] += gone
        sums["insertions"] += new
        sums["substitutions"] += len(edits) - gone - new
        if confusions:
            pairs.update((edit.true, edit.found) for edit in edits)
    below = np.array([len(one) for one in true], float)
    counts = {words[1]: int(below.sum())} | {f"{words[0]}_{what}": sums[what] for what in ("insertions", "deletions", "substitutions")}
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], str(item[0])))[:MOST]
    return Rate(key, above, below, counts, [{"true": one or "", "found": other or "", "count": number} for (one, other), number in ranked])
