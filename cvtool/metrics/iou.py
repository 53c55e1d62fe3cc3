"""IoU: how much two boxes cover of each other, continuous or with the older inclusive corners (Jaccard 1912, doi:10.1111/j.1469-8137.1912.tb05611.x).

NumPy alone, for the files of an evaluation; `cvtool.ops.boxes` has the same on tensors.
"""

from __future__ import annotations

import numpy as np

from cvtool.errors import UsageError

KIND = "boxes"
ALIASES = ("box-iou",)
KEYS = {"IoU": "intersection over union of a box and its partner, mean over the pairs"}
FORMATS = ("xyxy", "xywh", "cxcywh")


def convert(boxes: np.ndarray, source: str, target: str) -> np.ndarray:
    """... 4 boxes from one format into another: xyxy (corners), xywh (corner and sides) or cxcywh (centre and sides). Raises UsageError.

    Boxes on whole or half pixels come back to the bit: halving a binary fraction loses nothing.
    """
    for name in (source, target):
        if name not in FORMATS:
            raise UsageError(f"unknown box format '{name}'", hint=f"formats: {', '.join(FORMATS)}")
    boxes = np.asarray(boxes)
    boxes = boxes if np.issubdtype(boxes.dtype, np.floating) else boxes.astype(np.float64)
    if source == target:
        return boxes
    first, second = boxes[..., :2], boxes[..., 2:]
    if source == "xyxy":
        first, second = first, second - first  # a corner and the sides
    elif source == "cxcywh":
        first = first - second / 2
    if target == "xyxy":
        second = first + second
    elif target == "cxcywh":
        first = first + second / 2
    return np.concatenate([first, second], -1)


def area(boxes: np.ndarray, *, inclusive: bool = False) -> np.ndarray:
    """... 4 xyxy -> ... square pixels. inclusive: corners are the first and the last pixel, so a side is one longer."""
    return np.prod(boxes[..., 2:] - boxes[..., :2] + int(inclusive), -1)


def iou(a: np.ndarray, b: np.ndarray, *, inclusive: bool = False) -> np.ndarray:
    """... 4 and ... 4 xyxy (broadcast) -> ... in [0, 1]; 0 where both are empty.

    I / (A + B - I): from the sum of the areas the intersection is taken away, which they both hold. (A text takes away the union: a misprint.)
    (0, 0, 9, 9) and (5, 5, 14, 14) inclusive: 25 / 175 = 0.142857.
    """
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + int(inclusive)
    both = np.prod(np.clip(sides, 0, None), -1)
    union = area(a, inclusive=inclusive) + area(b, inclusive=inclusive) - both
    return both / np.where(union > 0, union, 1)


def compute(true: np.ndarray, found: np.ndarray, *, inclusive: bool = False, format: str = "xywh") -> dict[str, np.ndarray]:
    """N 4 and N 4 boxes of that format, partner beside partner -> `IoU`, N values."""
    return {"IoU": iou(convert(true, format, "xyxy"), convert(found, format, "xyxy"), inclusive=inclusive)}
