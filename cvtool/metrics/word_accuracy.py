"""Word accuracy: the share of texts that are read without any error, the figure of scene-text recognition (Shi 2015, arXiv:1507.05717)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cvtool.metrics._texts import Rate, comparable

KIND = "text"
ALIASES = ("word-recognition-accuracy", "exact-match")
KEYS = {"word_accuracy": "share of texts that equal the true ones; case=false,alnum=true is the protocol of scene text"}


def of_texts(true: Sequence[str], found: Sequence[str], *, case: bool = True, alnum: bool = False, unicode: str = "nfc") -> Rate:
    """The arguments as of `comparable`. A text that holds nothing comparable (punctuation alone) is right if the other holds nothing either."""
    form = comparable(case, alnum, unicode, "word-accuracy")
    right = np.array([form(one) == form(other) for one, other in zip(true, found, strict=True)], float)
    return Rate("word_accuracy", right, np.ones(len(right)), {"exact_texts": int(right.sum())})
