"""Top-1 accuracy: the share of pictures whose likeliest class is the true one."""

from __future__ import annotations


class Accuracy:
    """`update` with a picture's found and true class (None: nothing found), `compute` the fraction."""

    def __init__(self) -> None:
        self.right = self.count = 0

    def update(self, found: int | None, true: int) -> None:
        self.right += found == true
        self.count += 1

    def compute(self) -> dict[str, float]:
        """`accuracy` in [0, 1]; nothing without pictures."""
        return {"accuracy": self.right / self.count} if self.count else {}
