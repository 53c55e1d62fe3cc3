"""Weighted boxes fusion: boxes that several looks at a picture agree on become one, their weighted mean (Solovyev 2021, arXiv:1910.13302)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

IOU = 0.55  # the paper's


@dataclass(frozen=True)
class Fused:
    """boxes: M 4 float64 xyxy. scores: M. labels: M. best: M, the index of the box with the highest score in each. Best score first."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    best: np.ndarray


def fuse(boxes: Sequence[np.ndarray], scores: Sequence[np.ndarray], labels: Sequence[np.ndarray], *, iou: float = IOU) -> Fused:
    """A list entry a look: N_i 4 xyxy, N_i scores, N_i classes.

    From the highest score down, a box joins the cluster of its class that it overlaps most and by more than `iou`, or begins one; a cluster's box is
    the mean of its boxes weighted by their scores, and its score the sum of theirs over the number of looks (section 3: their mean times T / N, as no
    cluster takes two boxes of one look: whoever made these has told them apart). Boxes of different classes never meet.
    """
    looks = len(boxes)
    origin = np.repeat(np.arange(looks), [len(part) for part in boxes])
    every = np.concatenate([np.asarray(part, dtype=np.float64).reshape(-1, 4) for part in boxes]) if looks else np.zeros((0, 4))
    weights = np.concatenate([np.asarray(part, dtype=np.float64) for part in scores]) if looks else np.zeros(0)
    classes = np.concatenate([np.asarray(part, dtype=np.int64) for part in labels]) if looks else np.zeros(0, np.int64)
    count = 0
    sums, totals = np.zeros((len(every), 4)), np.zeros(len(every))  # of each cluster: of score times box, of scores
    means, kinds, best = np.zeros((len(every), 4)), np.zeros(len(every), np.int64), np.zeros(len(every), np.int64)
    seen = np.zeros((len(every), looks), dtype=bool)
    for i in np.argsort(-weights, kind="stable"):
        open_ = np.flatnonzero((kinds[:count] == classes[i]) & ~seen[:count, origin[i]])
        overlap = _iou(every[i], means[open_])
        if len(open_) and overlap.max() > iou:
            at = open_[overlap.argmax()]
        else:
            at, count = count, count + 1
            kinds[at], best[at], means[at] = classes[i], i, every[i]
        seen[at, origin[i]] = True
        sums[at] += weights[i] * every[i]
        totals[at] += weights[i]
        if totals[at] > 0:
            means[at] = sums[at] / totals[at]
    order = np.argsort(-totals[:count], kind="stable")
    return Fused(means[order], totals[order] / max(1, looks), kinds[order], best[order])


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """4 and M 4 xyxy -> M."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.maximum(0, sides).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - common
    return common / np.maximum(union, 1e-12)
