"""The confusion matrix of classes, and what follows from it: precision, recall and F1 of each, their means, balanced accuracy.

A class that was never found has no precision, one that never occurs no recall; in the means over classes they count 0, and a class that neither
occurs nor was found does not count, as scikit-learn has it. Balanced accuracy is the mean recall of the classes that occur.
"""

from __future__ import annotations

import numpy as np


class Confusion:
    """`update` with a picture's found and true class. A found class outside 0..classes-1 (None: nothing was found) is wrong, and no class's fault.

    matrix: classes, classes + 1 counts; row: true, column: found, the last one: none of the classes.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.matrix = np.zeros((classes, classes + 1), np.int64)

    def update(self, found: int | None, true: int) -> None:
        self.matrix[true, found if found is not None and 0 <= found < self.classes else self.classes] += 1

    def per_class(self) -> list[dict[str, float | None]]:
        """Of each class `precision`, `recall`, `f1` in [0, 1] (None where there is nothing to measure) and `pictures`, how many are of it."""
        right, found, true = self._sums()
        rows = []
        for r, f, t in zip(right.tolist(), found.tolist(), true.tolist(), strict=True):
            f1 = 2 * r / (f + t) if f + t else None
            rows.append({"precision": r / f if f else None, "recall": r / t if t else None, "f1": f1, "pictures": t})
        return rows

    def compute(self) -> dict[str, float]:
        """`balanced_accuracy` and the means over classes `precision`, `recall`, `f1`; nothing without pictures."""
        right, found, true = self._sums()
        if not true.sum():
            return {}
        there = (found + true) > 0
        rows = [row for row, counts in zip(self.per_class(), there.tolist(), strict=True) if counts]
        recall = right[true > 0] / true[true > 0]
        return {"balanced_accuracy": float(recall.mean())} | {
            key: sum(row[key] or 0.0 for row in rows) / len(rows) for key in ("precision", "recall", "f1")
        }

    def _sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each class: rightly found, found, true."""
        square = self.matrix[:, : self.classes]
        return square.diagonal(), square.sum(0), self.matrix.sum(1)
