"""Locality-aware suppression: neighbouring pixels that show the same text become one quad first (Zhou 2017, arXiv:1704.03155, algorithm 1).

A map gives nearly the same quad at every pixel of a word. In the order of the rows each quad is merged with the last merged one if they overlap,
corner by corner, weighted by their scores, whose sum the merged one has; else the last one is done and a new one begins. What is left goes through
standard suppression. O(n) where few words stand side by side, against O(n^2) of standard suppression of all.
"""

from __future__ import annotations

import numpy as np

from cvtool.ops.quads import bounds, iou

BLOCK = 1 << 22  # pairs of boxes looked at together


def locality_nms(
    quads: np.ndarray, scores: np.ndarray, *, overlap: float = 0.2, merge: float | None = None, most: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """N 4 2 quads in the order of the map's rows and N scores -> (K 4 2 quads, K sums of the scores merged in each), highest sum first.

    overlap: the IoU beyond which the lesser of two is dropped in the end; merge: beyond which neighbours are merged, None: the same. most: how many
    merged quads, those of the highest sums, go through standard suppression, whose time grows with their square; None: all.
    """
    quads, sums = merged(quads, scores, overlap if merge is None else merge)
    best = np.argsort(-sums, kind="stable")[:most]
    quads, sums = quads[best], sums[best]
    keep = standard_nms(quads, sums, overlap)
    return quads[keep], sums[keep]


def merged(quads: np.ndarray, scores: np.ndarray, overlap: float) -> tuple[np.ndarray, np.ndarray]:
    """The row-wise pass: N 4 2 and N -> M 4 2 weighted means of runs of consecutive quads, and M sums of their scores, in the same order.

    Run by run the pass is sequential: whether quad i joins depends on the mean of its run so far. Here all are asked at once, given a guess of where
    runs begin, which the answers then correct, until they agree. Where runs begin before quad i decides what is asked of it, so by induction the
    only agreement is the sequential pass's, and every round settles at least one more quad; it takes a few rounds.
    """
    quads, scores = np.asarray(quads, np.float64).reshape(-1, 4, 2), np.asarray(scores, np.float64).reshape(-1)
    count = len(quads)
    if not count:
        return quads, scores
    places = np.arange(count)
    weighted = quads * scores[:, None, None]
    total, mass = _sums(weighted), _sums(scores)  # of all before i
    before = places[:-1]  # the last quad that is in when 1.. are asked
    asked = np.full(count - 1, -1)  # where the run began, of which each was last asked
    begins = np.ones(count, bool)
    begins[1:] = iou(quads[1:], quads[:-1]) <= overlap
    while True:
        start = np.maximum.accumulate(np.where(begins, places, 0))[:-1]
        stale = np.flatnonzero(start != asked)
        if not len(stale):
            break
        first, last = start[stale], before[stale] + 1
        weight = mass[last] - mass[first]
        mean = np.divide(total[last] - total[first], weight[:, None, None], out=quads[stale].copy(), where=weight[:, None, None] > 0)
        begins[stale + 1] = iou(quads[stale + 1], mean) <= overlap
        asked[stale] = first
    first = np.flatnonzero(begins)
    sums = np.add.reduceat(scores, first)
    means = np.divide(np.add.reduceat(weighted, first), sums[:, None, None], out=quads[first].copy(), where=sums[:, None, None] > 0)
    return means, sums


def _sums(values: np.ndarray) -> np.ndarray:
    """N ... -> N + 1 ...: the sum of all before each place."""
    return np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, 0)])


def standard_nms(quads: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Indices of the quads that stay, best first: from the highest score down each stays unless its IoU with one that stayed exceeds `overlap`.
    Equal scores are taken in the order given."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    quads = np.asarray(quads, np.float64).reshape(-1, 4, 2)[order]
    one, other = touching(bounds(quads))
    clash = iou(quads[one], quads[other]) > overlap
    one, other = one[clash], other[clash]  # one < other: the better first; sorted by `one`
    start = np.searchsorted(one, np.arange(len(quads) + 1))
    alive = np.ones(len(quads), bool)
    for i in np.unique(one):
        if alive[i]:
            alive[other[start[i] : start[i + 1]]] = False
    return order[alive]


def touching(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """N 4 xyxy -> the pairs i < j that share area, sorted."""
    rows = max(1, BLOCK // max(1, len(boxes)))
    found = []
    for start in range(0, len(boxes), rows):
        some = boxes[start : start + rows, None]
        near = ((some[..., :2] < boxes[None, start:, 2:]) & (boxes[None, start:, :2] < some[..., 2:])).all(-1)
        i, j = np.nonzero(near)
        found.append(np.stack([i, j])[:, i < j] + start)
    one, other = np.concatenate(found, 1) if found else np.zeros((2, 0), np.int64)
    return one, other
