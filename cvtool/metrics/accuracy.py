"""Accuracy of classes of pictures: the true one is the likeliest, or among the five likeliest (Russakovsky 2015, arXiv:1409.0575)."""

from __future__ import annotations

from collections.abc import Sequence

TOP = 5


class Accuracy:
    """`update` with a picture's found classes, likeliest first (none: nothing found), and its true one; `compute` the fractions.

    classes: how many there are; among five or fewer, top-5 would say nothing and is left out, as it is where all lists are shorter than five.
    """

    def __init__(self, classes: int = 0) -> None:
        self.classes = classes
        self.right = self.near = self.count = self.longest = 0

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
