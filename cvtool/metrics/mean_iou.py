"""Intersection over union of label maps and the accuracies beside it (Long 2015, arXiv:1411.4038, section 5), from one confusion matrix.

Void, the pixels whose truth is 255, by two conventions that both are in use: `mIoU` and all others leave them out (VOC, Cityscapes, CamVid with 11
classes); `mIoU_void_counted` counts whatever class was found on them as wrongly found, as a union over all pixels does. A pixel on which no class
was found is wrong, and is no class's fault. Means are over the classes that occur or were found (accuracies: that occur).
"""

from __future__ import annotations

from typing import Any

import numpy as np

KIND = "maps"
ALIASES = ("miou", "iou-of-maps", "pixel-accuracy")
KEYS = {
    "mIoU": "intersection over union, mean over classes; void pixels left out",
    "pixel_accuracy": "pixels of the true class",
    "class_accuracy": "the same of each class, mean over classes",
    "frequency_weighted_IoU": "intersection over union, weighted by the classes' pixels",
    "mIoU_void_counted": "mIoU if what was found on void pixels counts as wrong",
}
IGNORE = 255


class MeanIoU:
    """`update` with maps of labels 0..classes-1; 255 in the truth is void, anything else outside that range in what was found is no class.

    confusion: (classes + 1) x (classes + 1) pixels; row: true, the last one void; column: found, the last one none.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.confusion = np.zeros((classes + 1, classes + 1), np.int64)

    def update(self, found: Any, true: Any) -> None:
        """Two H W integer maps of one picture. Raises ValueError where the truth is neither a class nor void."""
        last = self.classes
        found, true = np.asarray(found), np.asarray(true)
        if last < IGNORE:
            self.confusion += _joint_of_bytes(_as_bytes(found), _as_bytes(true), last)
            return
        found, true = found.astype(np.int64), true.astype(np.int64)
        found = np.where((found < 0) | (found >= last), last, found)
        pairs = np.where(true == IGNORE, last, true) * (last + 1) + found
        self.confusion += np.bincount(pairs.ravel(), minlength=(last + 1) ** 2).reshape(last + 1, last + 1)

    def per_class(self) -> list[dict[str, float | None]]:
        """Of each class `IoU` and `accuracy` (its recall) in [0, 1], None where there is nothing to measure, and `pixels`, how many are of it."""
        return rows(np.stack(self._sums()))

    def compute(self) -> dict[str, float]:
        """`mIoU`, `pixel_accuracy`, `class_accuracy` (its mean over classes), `frequency_weighted_IoU` and `mIoU_void_counted`, in [0, 1]; nothing
        without labelled pixels."""
        return figures(np.stack(self._sums()))

    def _sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Pixels of each class: rightly found, true, found where the truth is known, found on void."""
        return tuple(counts(None, None, self.confusion))  # type: ignore[return-value]


def _as_bytes(values: np.ndarray) -> np.ndarray:
    """Labels as uint8; what lies outside of 0..255 becomes 255, which is no class on either side."""
    if values.dtype == np.uint8:
        return values
    if values.size and (values.min() < 0 or values.max() > IGNORE):
        values = np.where((values < 0) | (values > IGNORE), IGNORE, values)
    return values.astype(np.uint8)


def _joint_of_bytes(found: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """The confusion matrix of uint8 maps: all 65,536 pairs of bytes are counted, and then the few of them that are classes put together.

    No pixel is compared with anything, which takes most of the time of the usual way.
    """
    pairs = np.left_shift(true, 8, dtype=np.uint16)
    pairs |= found
    every = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)
    if every[classes:IGNORE].any():
        raise ValueError(f"the truth has a label that is neither one of {classes} classes nor void (255)")
    known = np.concatenate([every[:classes], every[IGNORE:]])
    return np.concatenate([known[:, :classes], known[:, classes:].sum(1, keepdims=True)], 1)


def counts(found: Any, true: Any, confusion: np.ndarray) -> np.ndarray:
    """Pixels of each class, 4 K: rightly found, true, found where the truth is known, found on void; from a confusion matrix as of `MeanIoU`."""
    k = len(confusion) - 1
    return np.stack([confusion.diagonal()[:k], confusion[:k].sum(1), confusion[:k, :k].sum(0), confusion[k, :k]])


def figures(counted: np.ndarray) -> dict[str, float]:
    """The metrics of such counts, of one picture or of the sum of many; nothing without labelled pixels."""
    right, true, found, on_void = counted
    if not (every := true.sum()):
        return {}
    union = true + found - right
    there, occurs = union > 0, true > 0
    iou = right[there] / union[there]
    return {
        "mIoU": float(iou.mean()),
        "pixel_accuracy": float(right.sum() / every),
        "class_accuracy": float((right[occurs] / true[occurs]).mean()),
        "frequency_weighted_IoU": float((true[there] * iou).sum() / every),
        "mIoU_void_counted": float(_mean(right, union + on_void)),
    }


def rows(counted: np.ndarray) -> list[dict[str, float | None]]:
    """Of each class `IoU`, `accuracy` and `pixels`."""
    right, true, found, _ = counted.tolist()
    return [
        {"IoU": r / (t + f - r) if t + f else None, "accuracy": r / t if t else None, "pixels": t} for r, t, f in zip(right, true, found, strict=True)
    ]


def _mean(right: np.ndarray, union: np.ndarray) -> np.ndarray:
    return (right[union > 0] / union[union > 0]).mean()
