"""Anchors learned from a data set: k-means over width and height with the distance 1 - IoU (Redmon 2016, YOLOv2, arXiv:1612.08242, section 2).

The IoU is that of two boxes on one centre, so that large boxes do not count more than small ones, as they would by Euclid's distance. k = 5 is
YOLOv2's choice, k = 9 YOLOv3's (arXiv:1804.02767).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cvtool.errors import InputError
from cvtool.records import Record

SAMPLE = 50_000  # boxes that are clustered; of more, so many are drawn by the seed (the figures are those of all)
STARTS, ROUNDS = 4, 300  # random starts for each k beside the grown one, and rounds at most from each


@dataclass(frozen=True)
class Anchors:
    """sizes: K 2, width and height in pixels, small to large. mean_iou: the mean over the boxes of the IoU with their best anchor."""

    sizes: np.ndarray
    mean_iou: float


def box_sizes(records: Iterable[Record], img_size: int = 0) -> np.ndarray:
    """N 2: width and height of every box, crowds and boxes without area left out; clipped to its picture.

    img_size: as they are when the longer side of their picture is made that long; 0: in the picture's own pixels. Raises InputError for none.
    """
    found = []
    for record in records:
        boxes = [a["bbox"] for a in record.get("annotations") or () if "bbox" in a and not a.get("iscrowd")]
        if not boxes:
            continue
        width, height = record.size()
        scale = img_size / max(width, height) if img_size else 1.0
        for x, y, w, h in boxes:
            w, h = min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0)
            if w > 0 and h > 0:
                found.append((w * scale, h * scale))
    if not found:
        raise InputError("no picture of the data set has a box to learn anchors from")
    return np.array(found)


def iou(sizes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """N 2 and K 2 -> N K: intersection over union of boxes of these widths and heights on one centre."""
    shared = np.minimum(sizes[:, None], others).prod(-1)
    return shared / (sizes.prod(1)[:, None] + others.prod(1) - shared)


def learned(sizes: np.ndarray, k: int, seed: int = 0) -> list[Anchors]:
    """The anchors for 1, 2 ... k, each at least as good as the ones before. Raises InputError where fewer than k sizes differ.

    Of several starts the best counts: the anchors for one fewer and the box that they fit worst, and random boxes, each drawn the more likely the
    worse those before it fit. From a start, boxes go to their best anchor and anchors to the mean of their boxes until nothing moves; the best of all
    rounds is kept, because a mean does not always raise the IoU.
    """
    rng = np.random.default_rng((seed, k))
    drawn = sizes if len(sizes) <= SAMPLE else sizes[np.sort(rng.choice(len(sizes), SAMPLE, replace=False))]
    distinct = np.unique(drawn, axis=0)
    if len(distinct) < k:
        raise InputError(f"{k} anchors of {len(distinct)} different boxes", hint=f"-k {len(distinct)} is the most")
    best: list[np.ndarray] = []
    for count in range(1, k + 1):
        starts = [_scattered(distinct, count, rng) for _ in range(STARTS)]
        if best:
            worst = drawn[iou(drawn, best[-1]).max(1).argmin()]
            starts.insert(0, np.vstack([best[-1], worst]))
        best.append(max((_settled(drawn, start) for start in starts), key=lambda found: found[0])[1])
    ordered = [found[np.lexsort((found[:, 0], found.prod(1)))] for found in best]
    return [Anchors(found, mean_iou(sizes, found)) for found in ordered]


def mean_iou(sizes: np.ndarray, anchors: np.ndarray) -> float:
    """The mean of each box's IoU with its best anchor."""
    return float(iou(sizes, anchors).max(1).mean())


def _scattered(sizes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the sizes, far from each other (k-means++, Arthur 2007, with 1 - IoU)."""
    chosen = [sizes[rng.integers(len(sizes))]]
    while len(chosen) < count:
        far = (1 - iou(sizes, np.array(chosen)).max(1)) ** 2
        chosen.append(sizes[rng.choice(len(sizes), p=far / far.sum())])
    return np.array(chosen)


def _settled(sizes: np.ndarray, anchors: np.ndarray) -> tuple[float, np.ndarray]:
    """(mean IoU, anchors) of the best round from a start."""
    best, owners = (-1.0, anchors), np.full(len(sizes), -1)
    for _ in range(ROUNDS):
        found = iou(sizes, anchors)
        if (value := float(found.max(1).mean())) > best[0]:
            best = value, anchors
        nearest = found.argmax(1)
        if (nearest == owners).all():
            break
        owners = nearest
        counts = np.bincount(owners, minlength=len(anchors))
        sums = np.stack([np.bincount(owners, sizes[:, axis], len(anchors)) for axis in (0, 1)], 1)
        anchors = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], anchors)  # an anchor without a box stays where it is
    return best
