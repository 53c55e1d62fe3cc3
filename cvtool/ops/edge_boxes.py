"""Edge boxes: a box is likely an object, or a word, where many contours lie wholly inside it (Zitnick 2014, doi:10.1007/978-3-319-10602-1_26).

Edge pixels of about one direction that touch make a group; groups in line with each other are akin. A box counts the edges of the groups within,
each less the more it is akin, over any path of groups, to one that the box cuts; and without those of its middle, which say nothing of its outline.

Edges are gradients thinned across their direction, where the paper has a learned detector. Boxes are taken from a grid and are not moved
afterwards: a network does that in what this serves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KAPPA = 1.5  # of the box's perimeter in the score: larger boxes have more edges
GAMMA = 2.0  # sharpness of the kinship
KIN = 0.05  # less kinship than this is none
BINS = 8  # of directions
LEAST = 3  # pixels of a group
ASPECTS = (1.0, 1.6, 2.5, 4.0, 6.3)  # width / height
OVERLAP = 0.65  # IoU of boxes next to each other in the grid
FIRST = 3000  # boxes that are scored with their groups
AT_ONCE = 1 << 22  # numbers held at a time


@dataclass(frozen=True)
class Edges:
    """strength: H W, thinned, in [0, 1]. boxes: G 4 xyxy, sums: G, of the groups. kin: E 2 pairs of groups and kinship: E, over paths, both ways."""

    strength: np.ndarray
    boxes: np.ndarray
    sums: np.ndarray
    kin: np.ndarray
    kinship: np.ndarray


def edges(grey: np.ndarray, *, least: float = 0.1) -> Edges:
    """H W uint8 -> its edge groups. least: edges fainter than this share of the strongest are none."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(grey.astype(np.float32), 1.0)
    dx, dy = ndimage.sobel(smooth, 1), ndimage.sobel(smooth, 0)
    strength, turn = np.hypot(dx, dy), np.arctan2(dy, dx) % np.pi
    strength /= max(1e-6, float(strength.max()))
    kept = np.where(_crest(strength, turn) & (strength > least), strength, 0)
    labels = np.zeros(grey.shape, np.int32)
    count = 0
    bins = np.rint(turn * BINS / np.pi).astype(int) % BINS
    for k in range(BINS):
        part, found = ndimage.label((kept > 0) & (bins == k), np.ones((3, 3)))
        labels += np.where(part > 0, part + count, 0).astype(np.int32)
        count += found
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    fresh = np.where(sizes >= LEAST, np.cumsum(sizes >= LEAST), 0) if count else np.zeros(1, np.int64)
    fresh[0] = 0
    _, names = np.unique(fresh, return_inverse=True)  # 0, 1, 2, ...
    labels = names[labels].astype(np.int32)
    count = int(labels.max(initial=0))
    if not count:
        return Edges(kept, np.zeros((0, 4)), np.zeros(0), np.zeros((0, 2), np.int64), np.zeros(0))
    index = np.arange(1, count + 1)
    slices = ndimage.find_objects(labels)
    boxes = np.array([(s[1].start, s[0].start, s[1].stop, s[0].stop) for s in slices], np.float64)
    sums = np.asarray(ndimage.sum(kept, labels, index))
    middles = np.array(ndimage.center_of_mass(kept, labels, index))[:, ::-1]
    inside = labels > 0
    owner = labels[inside] - 1
    double = [np.bincount(owner, f(2 * turn[inside]) * kept[inside], count) for f in (np.cos, np.sin)]  # directions are the same half a turn on
    along = (np.arctan2(double[1], double[0]) / 2 + np.pi / 2) % np.pi  # an edge runs across its gradient
    return Edges(kept, boxes, sums, *_kin(labels, middles, along, count))


def _crest(strength: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """H W bool: not weaker than either neighbour across the edge, of eight."""
    step = np.rint(turn * 4 / np.pi).astype(int) % 4
    padded = np.pad(strength, 1)
    height, width = strength.shape
    out = np.zeros(strength.shape, bool)
    for k, (x, y) in enumerate(((1, 0), (1, 1), (0, 1), (-1, 1))):
        ahead, behind = (padded[1 + s * y : 1 + s * y + height, 1 + s * x : 1 + s * x + width] for s in (1, -1))
        out |= (step == k) & (strength >= ahead) & (strength > behind)
    return out


def _kin(labels: np.ndarray, middles: np.ndarray, along: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of groups and their kinship: of neighbours, at most two pixels apart, |cos(t_i - t_ij) cos(t_j - t_ij)|^gamma with t_ij the direction
    from one middle to the other; over a path the product, of which the largest counts."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    pairs = []
    height, width = labels.shape
    for y in range(3):
        for x in range(-2, 3):
            if y or x > 0:
                one, other = labels[: height - y, max(0, -x) : width - max(0, x)], labels[y:, max(0, x) : width - max(0, -x)]
                touch = (one > 0) & (other > 0) & (one != other)
                pairs.append(np.stack([one[touch], other[touch]], 1).astype(np.int64) - 1)
    near = np.unique(np.sort(np.concatenate(pairs), 1), axis=0)
    if not len(near):
        return np.zeros((0, 2), np.int64), np.zeros(0)
    i, j = near.T
    way = middles[j] - middles[i]
    between = np.arctan2(way[:, 1], way[:, 0])
    alike = np.abs(np.cos(along[i] - between) * np.cos(along[j] - between)) ** GAMMA
    i, j, alike = i[alike > KIN], j[alike > KIN], alike[alike > KIN].clip(max=1 - 1e-6)
    graph = csr_array((-np.log(alike), (i, j)), shape=(count, count))
    found: list[np.ndarray] = []
    values: list[np.ndarray] = []
    rows = max(1, AT_ONCE // count)
    for start in range(0, count, rows):
        some = np.arange(start, min(count, start + rows))
        far = dijkstra(graph, directed=False, indices=some, limit=-np.log(KIN))
        a, b = np.nonzero(np.isfinite(far) & (some[:, None] != np.arange(count)))
        found.append(np.stack([some[a], b], 1))
        values.append(np.exp(-far[a, b]))
    return np.concatenate(found), np.concatenate(values)


def score(found: Edges, boxes: np.ndarray) -> np.ndarray:
    """N 4 xyxy -> N: h_b without the middle, of the paper's equations 3 and 4."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    size = boxes[:, 2:] - boxes[:, :2]
    out: np.ndarray = np.zeros(len(boxes))
    order = np.lexsort((found.kin[:, 0], found.kin[:, 1]))
    source, target, alike = found.kin[order, 0], found.kin[order, 1], found.kinship[order]
    firsts, starts = np.unique(target, return_index=True)
    rows = max(1, AT_ONCE // max(1, len(found.sums) + len(source)))
    for start in range(0, len(boxes), rows):
        b = boxes[start : start + rows, None]
        within = np.asarray(((found.boxes[None, :, :2] >= b[..., :2]) & (found.boxes[None, :, 2:] <= b[..., 2:])).all(2))
        touched = np.asarray(((found.boxes[None, :, :2] < b[..., 2:]) & (found.boxes[None, :, 2:] > b[..., :2])).all(2))
        cut = touched & ~within
        weight: np.ndarray = within.astype(np.float64)
        if len(source):
            weight[:, firsts] *= 1 - np.maximum.reduceat(cut[:, source] * alike, starts, axis=1)
        out[start : start + rows] = weight @ found.sums
    return np.maximum(0, out - inside(found.strength, middles(boxes))) / (2 * size.sum(1) ** KAPPA)


def middles(boxes: np.ndarray) -> np.ndarray:
    """N 4 -> the middle part of each, half as wide and high."""
    quarter = (boxes[:, 2:] - boxes[:, :2]) / 4
    return np.concatenate([boxes[:, :2] + quarter, boxes[:, 2:] - quarter], 1)


def inside(strength: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The sum of H W over the whole pixels of each box, N 4 -> N."""
    table = np.pad(strength.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    x0, x1 = (np.rint(boxes[:, k]).astype(int).clip(0, strength.shape[1]) for k in (0, 2))
    y0, y1 = (np.rint(boxes[:, k]).astype(int).clip(0, strength.shape[0]) for k in (1, 3))
    return table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0]


def grid(height: int, width: int, *, least: int = 8) -> np.ndarray:
    """N 4: boxes of every size and shape, so near to each other that any has one in the grid with which its IoU is about OVERLAP or more."""
    share = (1 - OVERLAP) / (1 + OVERLAP)
    found = [np.zeros((0, 4))]
    high = float(least)
    while high <= height:
        for aspect in ASPECTS:
            wide = high * aspect
            if wide <= width:
                x, y = np.arange(0, width - wide + 1, max(1.0, 2 * share * wide)), np.arange(0, height - high + 1, max(1.0, 2 * share * high))
                xx, yy = (v.ravel() for v in np.meshgrid(x, y))
                found.append(np.stack([xx, yy, xx + wide, yy + high], 1))
        high /= OVERLAP**0.5
    return np.concatenate(found)


def edge_boxes(grey: np.ndarray, *, count: int = 1000, least: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """H W uint8 -> at most `count` boxes, N 4 xyxy, and their scores, N, best first. least: pixels of the lowest box.

    The grid's boxes are first ranked by all edges inside them but those of the middle, which no box's score exceeds; the best are scored fully.
    """
    found = edges(grey)
    boxes = grid(*grey.shape, least=least)
    most = (inside(found.strength, boxes) - inside(found.strength, middles(boxes))) / (2 * (boxes[:, 2:] - boxes[:, :2]).sum(1) ** KAPPA)
    boxes = boxes[np.argsort(-most, kind="stable")[: max(FIRST, count)]]
    values = score(found, boxes)
    order = np.argsort(-values, kind="stable")[:count]
    order = order[values[order] > 0]
    return boxes[order], values[order]
