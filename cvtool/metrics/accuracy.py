"""Accuracy of classes of pictures: the true one is the likeliest, or among the five likeliest (Russakovsky 2015, arXiv:1409.0575)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvtool.metrics._answers import Answers

KIND = "classes"
KEYS = {"accuracy": "pictures whose best class is the true one", "top5_accuracy": "the true class is among the best five"}
TOP = 5


class Accuracy:
    """`update` with a picture's found classes, likeliest first (none: nothing found), and its true one; `compute` the fractions.

    classes: how many there are; among five or fewer, top-5 would say nothing and is left out, as it is where all lists are shorter than five.
    """

    def __init__(self, classes: int = 0) -> None:
        self.classes = classes
        self.right = self.near = self.count = 0.0
        self.longest = 0

    def update(self, found: Sequence[int], true: int) -> None:
        self.right += bool(found) and found[0] == true
        self.near += true in found[:TOP]
        self.longest = max(self.longest, len(found))
        self.count += 1

    def compute(self) -> dict[str, float]:
        """`accuracy` and, where it can be told, `top5_accuracy`, in [0, 1]; nothing without pictures."""
        if not self.count:
            return {}
        values = {"accuracy": self.right / self.count}
        return values | ({"top5_accuracy": self.near / self.count} if self.classes > TOP <= self.longest else {})


def of_answers(answers: Answers, weights: Any = None) -> dict[str, float]:
    """The same of arrays: see `_answers.py`."""
    metric = Accuracy(answers.classes)
    near = (answers.place >= 0) & (answers.place < TOP)
    counts = [one.astype(float) if weights is None else one * weights for one in (answers.right, near)]
    metric.right, metric.near = (float(one.sum()) for one in counts)
    metric.count = float(len(near) if weights is None else weights.sum())
    metric.longest = int(answers.listed.max(initial=0))
    return metric.compute()
