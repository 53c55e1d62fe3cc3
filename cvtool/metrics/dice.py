"""Dice: twice the pixels in both maps over the pixels in each, per class; the F1 of pixels (Dice 1945, doi:10.2307/1932409).

Pixels are summed over the pictures before they are divided; void is left out. 2 IoU / (1 + IoU) of the same counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

KIND = "maps"
ALIASES = ("dice-score", "f1-of-pixels")
KEYS = {"Dice": "twice what both maps have over the sum of what each has, mean over classes"}


def counts(found: Any, true: Any, confusion: np.ndarray) -> np.ndarray:
    """2 K pixels of each class: rightly found; true and found, added; from a confusion matrix as of `MeanIoU`, its last row void."""
    k = len(confusion) - 1
    return np.stack([confusion.diagonal()[:k], confusion[:k].sum(1) + confusion[:k, :k].sum(0)])


def figures(counted: np.ndarray) -> dict[str, float]:
    """`Dice`, the mean over classes that occur or were found; nothing without any."""
    right, both = counted
    there = both > 0
    return {"Dice": float((2 * right[there] / both[there]).mean())} if there.any() else {}


def rows(counted: np.ndarray) -> list[dict[str, Any]]:
    """Of each class `Dice`, None where it neither occurs nor was found."""
    return [{"Dice": float(2 * right / both) if both else None} for right, both in counted.T]
