"""CER: character error rate, insertions, deletions and substitutions over the length of the true text (Levenshtein 1966)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cvtool.metrics._texts import Rate, comparable, edits_of

KIND = "text"
ALIASES = ("character-error-rate",)
KEYS = {"CER": "edits of characters over the number of true characters, summed over all texts; may exceed 1"}
LOWER = ("CER",)


def of_texts(
    true: Sequence[str], found: Sequence[str], *, case: bool = True, alnum: bool = False, unicode: str = "nfc", squeeze: bool = False
) -> Rate:
    """A character is a code point. squeeze: a run of white space, line feeds among it, counts as one blank; the rest as of `comparable`."""
    form = comparable(case, alnum, unicode, "cer")
    shown = (lambda text: re.sub(r"\s+", " ", form(text))) if squeeze else form
    return edits_of("CER", ("character", "characters"), [shown(text) for text in true], [shown(text) for text in found], confusions=True)
