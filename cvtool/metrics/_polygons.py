"""Areas of simple polygons and of what two of them share, many pairs at once.

A simple polygon, convex or not, is the signed sum of the triangles that its first corner spans with its sides, and so is what two polygons share: the
signed sum over pairs of their triangles, each cut by the other (Sutherland 1974, doi:10.1145/360767.360802).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST = 200_000  # pairs of triangles cut at a time


def area(corners: np.ndarray) -> np.ndarray:
    """... V 2 -> ... signed area; positive where the corners turn from x to y."""
    x, y = corners[..., 0] - corners[..., :1, 0], corners[..., 1] - corners[..., :1, 1]
    return (x * np.roll(y, -1, -1) - np.roll(x, -1, -1) * y).sum(-1) / 2


def simple(quad: np.ndarray) -> np.ndarray:
    """4 2 -> 4 2: the corners in an order in which no two sides cross, unchanged where none do."""
    if not (_cross(quad[0], quad[1], quad[2], quad[3]) or _cross(quad[1], quad[2], quad[3], quad[0])):
        return quad
    middle = quad - quad.mean(0)
    return quad[np.argsort(np.arctan2(middle[:, 1], middle[:, 0]), kind="stable")]


def _cross(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> bool:
    """Whether the segments ab and cd cross inside both."""
    sides = [area(np.stack(three)) for three in ((a, b, c), (a, b, d), (c, d, a), (c, d, b))]
    return bool(sides[0] * sides[1] < 0 and sides[2] * sides[3] < 0)


def shared(ones: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> np.ndarray:
    """M polygons (each V 2, any V >= 3), N polygons -> M N, the area that each pair shares."""
    out = np.zeros((len(ones), len(others)))
    if not out.size:
        return out
    low, high = (np.array([[edge(one[:, 0]), edge(one[:, 1])] for one in ones]) for edge in (np.min, np.max))
    below, above = (np.array([[edge(one[:, 0]), edge(one[:, 1])] for one in others]) for edge in (np.min, np.max))
    near = ((low[:, None] < above[None]) & (below[None] < high[:, None])).all(-1)
    mine, theirs = [_triangles(one) for one in ones], [_triangles(one) for one in others]
    pairs = np.argwhere(near)
    start = 0
    while start < len(pairs):
        end, size = start, 0
        while end < len(pairs) and (end == start or size < MOST):
            size += len(mine[pairs[end, 0]][0]) * len(theirs[pairs[end, 1]][0])
            end += 1
        owners, left, right, signs = [], [], [], []
        for n, (i, j) in enumerate(pairs[start:end]):
            (one, sign), (other, turn) = mine[i], theirs[j]
            owners.append(np.full(len(one) * len(other), n))
            left.append(np.repeat(one, len(other), 0))
            right.append(np.tile(other, (len(one), 1, 1)))
            signs.append(np.outer(sign, turn).ravel())
        areas = np.concatenate(signs) * _cut(np.concatenate(left), np.concatenate(right))
        sums = np.bincount(np.concatenate(owners), areas, end - start)
        out[pairs[start:end, 0], pairs[start:end, 1]] = np.maximum(sums, 0)
        start = end
    return out


def _triangles(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T 3 2 triangles that turn from x to y, T signs in {-1, 1}), which add up to the polygon of positive area."""
    corners = np.asarray(corners, np.float64)
    fan = np.stack([np.broadcast_to(corners[0], corners[1:-1].shape), corners[1:-1], corners[2:]], 1)
    signs = np.sign(area(fan))
    fan, signs = fan[signs != 0], signs[signs != 0]
    fan = np.where(signs[:, None, None] > 0, fan, fan[:, ::-1])
    return fan, signs * np.sign(area(corners))


def _cut(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """M 3 2, M 3 2 triangles that turn from x to y -> M areas shared: the first, cut along each side of the second."""
    origin = others[:, :1]
    shape, others = ones - origin, others - origin  # near zero, where areas are exact
    for k in range(3):
        start, way = others[:, k, None], (others[:, (k + 1) % 3] - others[:, k])[:, None]
        offset = shape - start
        side = way[..., 0] * offset[..., 1] - way[..., 1] * offset[..., 0]  # M V: >= 0 inside
        following, next_side = np.roll(shape, -1, 1), np.roll(side, -1, 1)
        inside = side >= 0
        crosses = inside != (next_side >= 0)
        part = np.divide(side, side - next_side, out=np.zeros_like(side), where=crosses)
        points = np.stack([shape, shape + part[..., None] * (following - shape)], 2).reshape(len(shape), -1, 2)
        kept = np.stack([inside, crosses], 2).reshape(len(shape), -1)
        room = shape.shape[1] + 1
        order = np.argsort(~kept, 1, kind="stable")[:, :room]
        shape = np.take_along_axis(points, order[..., None], 1)
        full = np.take_along_axis(kept, order, 1)
        shape = np.where(full[..., None], shape, shape[:, :1])  # places that are left over repeat the first corner and add no area
    return np.abs(area(shape))
