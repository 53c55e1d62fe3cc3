"""Intersection over union of the boundaries of classes: pixels within 2 % of the diagonal of a class's edge (Cheng 2021, arXiv:2103.16562).

The boundary of a mask is what an erosion takes away from it: its pixels from which another class, void or the picture's border is at most d steps
away (straight or diagonal), d = 0.02 x the picture's diagonal, rounded, at least 1. Intersections and unions are summed over the pictures before they
are divided, void pixels belong to nobody. The mean runs over the classes that occur or were found.
"""

from __future__ import annotations

from typing import Any

import numpy as np

KIND = "maps"
ALIASES = ("biou",)
KEYS = {"boundary_IoU": "intersection over union of the classes' boundaries, mean over classes"}
DILATION = 0.02
VOID = 255


def counts(found: np.ndarray, true: np.ndarray, confusion: np.ndarray, *, dilation: float = DILATION) -> np.ndarray:
    """2 K boundary pixels of each class: in both maps, in either; of one picture, H W labels 0..K-1. dilation: of the diagonal."""
    k = len(confusion) - 1
    steps = width(true.shape, dilation)
    known = true != VOID
    out = np.zeros((2, k), np.int64)
    for label in np.flatnonzero(confusion[:k].sum(1) + confusion[:, :k].sum(0)):
        one, other = edge(found == label, steps) & known, edge(true == label, steps)
        both = np.count_nonzero(one & other)
        out[:, label] = both, np.count_nonzero(one) + np.count_nonzero(other) - both
    return out


def figures(counted: np.ndarray) -> dict[str, float]:
    """`boundary_IoU` of such counts; nothing without boundaries."""
    both, either = counted
    there = either > 0
    return {"boundary_IoU": float((both[there] / either[there]).mean())} if there.any() else {}


def rows(counted: np.ndarray) -> list[dict[str, Any]]:
    """Of each class `boundary_IoU`, None where it neither occurs nor was found."""
    return [{"boundary_IoU": float(both / either) if either else None} for both, either in counted.T]


def width(shape: tuple[int, ...], dilation: float = DILATION) -> int:
    """The boundary's width in pixels for a picture H W."""
    return max(1, round(dilation * float(np.hypot(shape[0], shape[1]))))


def edge(mask: np.ndarray, steps: int) -> np.ndarray:
    """H W bool -> the pixels of the mask that lie at most `steps` from its outside, beyond the picture's border included."""
    from scipy.ndimage import minimum_filter1d

    out = np.zeros(mask.shape, bool)
    lines, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(lines):
        return out
    part = slice(lines[0], lines[-1] + 1), slice(columns[0], columns[-1] + 1)  # outside of it there is no mask
    inner = mask[part].astype(np.uint8)
    for axis in (0, 1):
        inner = minimum_filter1d(inner, 2 * steps + 1, axis=axis, mode="constant", cval=0)
    out[part] = mask[part] & (inner == 0)
    return out


def edge_of_code(code: dict, dilation: float = DILATION) -> dict:
    """The boundary of a mask, both as compressed run-length code."""
    from pycocotools import mask as coco

    mask = coco.decode(code)
    return coco.encode(np.asfortranarray(edge(mask.astype(bool), width(mask.shape, dilation)), dtype=np.uint8))
