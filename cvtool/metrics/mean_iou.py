"""Mean intersection over union of label maps, and pixel accuracy (Long 2015, arXiv:1411.4038, section 5), from one confusion matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

IGNORE = 255


class MeanIoU:
    """`update` with maps of labels 0..classes-1; pixels whose truth is 255 do not count."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.confusion = np.zeros((classes, classes), np.int64)  # row: true, column: found

    def update(self, found: Any, true: Any) -> None:
        """Two H W integer maps of one picture."""
        found, true = np.asarray(found), np.asarray(true)
        counted = true != IGNORE
        pairs = true[counted].astype(np.int64) * self.classes + found[counted]
        self.confusion += np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes)

    def compute(self) -> dict[str, float]:
        """`mIoU` over the classes that were there or were found, and `pixel_accuracy`, in [0, 1]; nothing without counted pixels."""
        right, every = self.confusion.diagonal(), self.confusion.sum()
        if not every:
            return {}
        union = self.confusion.sum(0) + self.confusion.sum(1) - right
        there = union > 0
        return {"mIoU": float((right[there] / union[there]).mean()), "pixel_accuracy": float(right.sum() / every)}
