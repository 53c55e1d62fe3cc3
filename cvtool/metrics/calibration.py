"""Expected calibration error: how far confidence is from accuracy (Naeini 2015; Guo 2017, arXiv:1706.04599, eq. 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cvtool.metrics._answers import Answers

KIND = "classes"
ALIASES = ("ece",)
KEYS = {"ECE": "expected calibration error: how far confidence is from accuracy, over 15 bins"}
LOWER = ("ECE",)


class CalibrationError:
    """`update` with a picture's confidence in [0, 1] and whether its class was right; `compute` the error over `bins` of equal width, (a, b]."""

    def __init__(self, bins: int = 15) -> None:
        self.bins = bins
        self.count, self.right, self.confidence = (np.zeros(bins) for _ in range(3))

    def update(self, confidence: float, right: bool) -> None:
        if not 0 <= confidence <= 1:
            raise ValueError(f"a confidence lies in [0, 1], not {confidence}")
        place = max(0, int(np.ceil(confidence * self.bins)) - 1)
        self.count[place] += 1
        self.right[place] += right
        self.confidence[place] += confidence

    def compute(self) -> dict[str, float]:
        """`ECE`: sum over bins of |B| / n * |accuracy(B) - confidence(B)|, in [0, 1]; nothing without pictures."""
        total = self.count.sum()
        return {"ECE": float(np.abs(self.right - self.confidence).sum() / total)} if total else {}


def of_answers(answers: Answers, weights: np.ndarray | None = None, *, bins: int = 15) -> dict[str, float]:
    """The same of arrays (see `_answers.py`), of the pictures that were answered; nothing where an answer has no score or one outside [0, 1]."""
    there = answers.listed > 0
    confidence = answers.confidence[there]
    if not ((confidence >= 0) & (confidence <= 1)).all():  # nan is not
        return {}
    metric, counted = CalibrationError(bins), np.ones(there.sum()) if weights is None else weights[there]
    places = np.maximum(0, np.ceil(confidence * bins).astype(int) - 1)
    for name, values in (("count", counted), ("right", counted * answers.right[there]), ("confidence", counted * confidence)):
        setattr(metric, name, np.bincount(places, values, minlength=bins))
    return metric.compute()
