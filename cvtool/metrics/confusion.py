"""The confusion matrix of classes, and what follows from it: precision, recall and F1 of each, their means, balanced accuracy.

A class that was never found has no precision, one that never occurs no recall; in the means over classes they count 0, and a class that neither
occurs nor was found does not count, as scikit-learn has it. Balanced accuracy is the mean recall of the classes that occur.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cvtool.metrics._answers import Answers

KIND = "classes"
KEYS = {
    "balanced_accuracy": "mean recall of the classes",
    "precision": "of the pictures found to be of a class, those that are; mean over classes",
    "recall": "of the pictures of a class, those that were found; mean over classes",
    "f1": "harmonic mean of both; mean over classes",
}


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
        return of_counts(*self._sums())

    def _sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each class: rightly found, found, true."""
        square = self.matrix[:, : self.classes]
        return square.diagonal(), square.sum(0), self.matrix.sum(1)


def of_answers(answers: Answers, weights: np.ndarray | None = None) -> dict[str, float]:
    """The same of arrays: see `_answers.py`."""
    return of_counts(*sums(answers, weights))


def sums(answers: Answers, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each class, K: rightly found, found, true; float64."""
    counted = np.ones(len(answers.true)) if weights is None else weights
    right, found = answers.found == answers.true, answers.found >= 0
    pairs = ((answers.true[right], counted[right]), (answers.found[found], counted[found]), (answers.true, counted))
    return tuple(np.bincount(labels, number, minlength=answers.classes) for labels, number in pairs)  # type: ignore[return-value]


def of_counts(right: np.ndarray, found: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """The figures of counts of each class, K: rightly found, found, true."""
    if not true.sum():
        return {}
    there, occurs = (found + true) > 0, true > 0
    share = {"precision": found, "recall": true, "f1": (found + true) / 2}
    means = {key: float(np.divide(right, of, out=np.zeros(len(right)), where=of > 0)[there].mean()) for key, of in share.items()}
    return {"balanced_accuracy": float((right[occurs] / true[occurs]).mean()), **means}
