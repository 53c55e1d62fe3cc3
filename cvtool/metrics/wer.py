"""WER: word error rate, words inserted, left out and replaced over the number of true words (Levenshtein 1966)."""

from __future__ import annotations

from collections.abc import Sequence

from cvtool.metrics._texts import Rate, comparable, edits_of

KIND = "text"
ALIASES = ("word-error-rate",)
KEYS = {"WER": "edits of words over the number of true words, summed over all texts; may exceed 1"}
LOWER = ("WER",)


def of_texts(true: Sequence[str], found: Sequence[str], *, case: bool = True, alnum: bool = False, unicode: str = "nfc") -> Rate:
    """A word is what white space divides, its punctuation included; the arguments as of `comparable`."""
    form = comparable(case, alnum, unicode, "wer")
    return edits_of("WER", ("word", "words"), [tuple(form(text).split()) for text in true], [tuple(form(text).split()) for text in found])
