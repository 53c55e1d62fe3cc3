"""Quadrilaterals around text: order of corners, areas and overlaps, smallest rectangles, and the pixels inside, straightened.

Quads are arrays ... 4 2 of corners (x, y) in absolute pixels, y downwards, clockwise as they are seen; work is done in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image


def area(quads: np.ndarray) -> np.ndarray:
    """... V 2 corners of polygons -> ... signed areas, positive where the corners run clockwise as they are seen (shoelace formula)."""
    points = np.asarray(quads, np.float64)
    x, y = points[..., 0] - points[..., :1, 0], points[..., 1] - points[..., :1, 1]  # near zero, where areas are exact
    return (x * np.roll(y, -1, -1) - np.roll(x, -1, -1) * y).sum(-1) / 2


def sides(quads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """... 4 2 -> (widths, heights), each ...: the means of the top and bottom and of the left and right side."""
    quads = np.asarray(quads, np.float64)
    top, right, bottom, left = (np.linalg.norm(quads[..., (i + 1) % 4, :] - quads[..., i, :], axis=-1) for i in range(4))
    return (top + bottom) / 2, (left + right) / 2


def angles(quads: np.ndarray) -> np.ndarray:
    """... 4 2 -> ... radians in (-pi, pi]: the direction of reading, from the middle of the left side to that of the right; 0 is level, positive
    falls to the right."""
    quads = np.asarray(quads, np.float64)
    along = quads[..., 1, :] + quads[..., 2, :] - quads[..., 0, :] - quads[..., 3, :]
    return np.arctan2(along[..., 1], along[..., 0])


def ordered(quads: np.ndarray) -> np.ndarray:
    """N 4 2 corners in any order -> the same corners clockwise, beginning where the direction of reading is within 45 degrees of level."""
    quads = np.asarray(quads, np.float64).reshape(-1, 4, 2)
    middle = quads - quads.mean(1, keepdims=True)
    around = np.argsort(np.arctan2(middle[..., 1], middle[..., 0]), axis=1, kind="stable")
    return level(np.take_along_axis(quads, around[..., None], 1))


def level(quads: np.ndarray) -> np.ndarray:
    """N 4 2 clockwise -> the same beginning at the corner from which the direction of reading is nearest to level (on a tie: the downward one)."""
    quads = np.asarray(quads, np.float64).reshape(-1, 4, 2)
    rolls = np.stack([np.roll(quads, -k, 1) for k in range(4)], 1)  # N 4 4 2
    slant = angles(rolls)
    first = np.argmin(np.abs(slant) - 1e-9 * (slant > 0), 1)
    return rolls[np.arange(len(quads)), first]


def of_boxes(boxes: np.ndarray) -> np.ndarray:
    """N 4 xyxy -> N 4 2."""
    x0, y0, x1, y1 = np.asarray(boxes, np.float64).reshape(-1, 4).T
    return np.stack([np.stack([x0, y0], 1), np.stack([x1, y0], 1), np.stack([x1, y1], 1), np.stack([x0, y1], 1)], 1)


def bounds(quads: np.ndarray) -> np.ndarray:
    """... V 2 -> ... 4 xyxy: the upright box around each."""
    quads = np.asarray(quads)
    return np.concatenate([quads.min(-2), quads.max(-2)], -1)


def smallest_rectangles(points: np.ndarray) -> np.ndarray:
    """N V 2 (V small, such as quads) -> N 4 2: the rotated rectangle of least area around each set of points, clockwise from its level corner.

    It has a side along a side of the convex hull (Freeman 1975, doi:10.1145/360881.360919); tried are the directions between any two points.
    """
    points = np.asarray(points, np.float64)
    one, other = np.triu_indices(points.shape[1], 1)
    along = points[:, other] - points[:, one]  # N D 2
    length = np.linalg.norm(along, axis=-1, keepdims=True)
    along = np.where(length > 0, along / np.where(length > 0, length, 1), [1.0, 0.0])
    across = np.stack([-along[..., 1], along[..., 0]], -1)
    u, v = np.einsum("ndk,nvk->ndv", along, points), np.einsum("ndk,nvk->ndv", across, points)
    size = np.ptp(u, axis=2) * np.ptp(v, axis=2)
    # the first of those that tie, the direction of the first side being tried first, whatever the last bit says
    best = np.argmax(size <= size.min(1, keepdims=True) * (1 + 1e-9) + 1e-12, 1)
    rows = np.arange(len(points))
    along, across, u, v = along[rows, best], across[rows, best], u[rows, best], v[rows, best]
    corners = [(u.min(1), v.min(1)), (u.max(1), v.min(1)), (u.max(1), v.max(1)), (u.min(1), v.max(1))]
    return level(np.stack([a[:, None] * along + b[:, None] * across for a, b in corners], 1))


def smallest_rectangle(points: np.ndarray) -> np.ndarray:
    """V 2, any number of points -> 4 2: the rotated rectangle of least area around them (see `smallest_rectangles`)."""
    corners = hull(points)
    along = np.roll(corners, -1, 0) - corners
    length = np.linalg.norm(along, axis=1, keepdims=True)
    along = along[length[:, 0] > 0] / length[length[:, 0] > 0]
    if not len(along):
        along = np.array([[1.0, 0.0]])
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    size = np.ptp(along @ corners.T, axis=1) * np.ptp(across @ corners.T, axis=1)
    best = int(np.argmax(size <= size.min() * (1 + 1e-9) + 1e-12))
    u, v = corners @ along[best], corners @ across[best]
    places = [(u.min(), v.min()), (u.max(), v.min()), (u.max(), v.max()), (u.min(), v.max())]
    return level(np.array([[a * along[best] + b * across[best] for a, b in places]]))[0]


def hull(points: np.ndarray) -> np.ndarray:
    """V 2 -> U 2: the corners of the convex hull, clockwise as they are seen (Andrew 1979, doi:10.1016/0020-0190(79)90072-3)."""
    points = np.unique(np.asarray(points, np.float64).reshape(-1, 2), axis=0)
    if len(points) < 3:
        return points
    halves: list[list[list[float]]] = []
    for way in (points, points[::-1]):
        half: list[list[float]] = []
        for x, y in way.tolist():
            while len(half) > 1:
                (ax, ay), (bx, by) = half[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                half.pop()
            half.append([x, y])
        halves.append(half[:-1])
    return np.array(halves[0] + halves[1])


def overlap(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """N 4 2 and N 4 2 convex quads -> N areas that the two of each pair share: the first, cut along each side of the second
    (Sutherland 1974, doi:10.1145/360767.360802)."""
    ones, others = clockwise(ones), clockwise(others)
    origin = others[:, :1]
    shape, others = ones - origin, others - origin
    for k in range(4):
        start, way = others[:, k, None], (others[:, (k + 1) % 4] - others[:, k])[:, None]
        offset = shape - start
        side = way[..., 0] * offset[..., 1] - way[..., 1] * offset[..., 0]  # N V: >= 0 inside
        following, next_side = np.roll(shape, -1, 1), np.roll(side, -1, 1)
        stays = side >= 0
        crosses = stays != (next_side >= 0)
        part = np.divide(side, side - next_side, out=np.zeros_like(side), where=crosses)
        points = np.stack([shape, shape + part[..., None] * (following - shape)], 2).reshape(len(shape), 2 * shape.shape[1], 2)
        kept = np.stack([stays, crosses], 2).reshape(len(shape), 2 * shape.shape[1])
        order = np.argsort(~kept, 1, kind="stable")[:, : shape.shape[1] + 1]
        shape, full = np.take_along_axis(points, order[..., None], 1), np.take_along_axis(kept, order, 1)
        shape = np.where(full[..., None], shape, shape[:, :1])  # places left over repeat the first corner and add no area
        shape = np.where(full[:, :1, None], shape, 0)  # nothing is left
    return np.abs(area(shape))


def iou(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """N 4 2 and N 4 2 convex quads -> N in [0, 1]: intersection over union of each pair; 0 where both are empty."""
    both = overlap(ones, others)
    union = np.abs(area(ones)) + np.abs(area(others)) - both
    return np.clip(np.divide(both, union, out=np.zeros_like(both), where=union > 0), 0, 1)


def clockwise(quads: np.ndarray) -> np.ndarray:
    """N 4 2 -> the same corners, in the other direction where they ran against the clock."""
    quads = np.asarray(quads, np.float64)
    return np.where((area(quads) < 0)[:, None, None], quads[:, [0, 3, 2, 1]], quads)


def shrunk(quads: np.ndarray, part: float = 0.3, least: float = 0.0) -> np.ndarray:
    """N 4 2 -> N 4 2: each side moved inwards at both ends, by `part` of the shorter side that meets there (Zhou 2017, arXiv:1704.03155, section
    3.3.1): the two longer sides first, then the shorter two. At least `least` pixels between opposite sides stay, where there were as many."""
    quads = np.array(quads, np.float64).reshape(-1, 4, 2)
    lengths = np.linalg.norm(np.roll(quads, -1, 1) - quads, axis=-1)  # N 4: of the side from corner i to i + 1
    reference = np.minimum(lengths, np.roll(lengths, 1, 1))  # r_i, N 4
    by = np.minimum(part * reference, np.maximum(0, (reference - least) / 2))
    level_first = lengths[:, 0] + lengths[:, 2] > lengths[:, 1] + lengths[:, 3]
    for longer in (True, False):
        for first in (0, 1):
            now = level_first == ((first == 0) == longer)
            for i in (first, first + 2):
                j = (i + 1) % 4
                way = quads[:, j] - quads[:, i]
                length = np.linalg.norm(way, axis=1, keepdims=True)
                way = np.divide(way, length, out=np.zeros_like(way), where=length > 0)
                quads[now, i] += (by[:, i, None] * way)[now]
                quads[now, j] -= (by[:, j, None] * way)[now]
    return quads


def crops(pixels: np.ndarray, quads: np.ndarray, height: int | None = None) -> list[np.ndarray]:
    """What each quad shows, straightened: H W 3 uint8 and N 4 2 -> N pictures h w 3 uint8, the first corner in the left top one of each.

    height: of each crop, its width in proportion to the quad's sides; None takes the quad's own size. Outside of the picture its border repeats.
    """
    return [crop(pixels, quad, height) for quad in np.asarray(quads, np.float64).reshape(-1, 4, 2)]


def crop(pixels: np.ndarray, quad: np.ndarray, height: int | None = None) -> np.ndarray:
    """One quad's pixels (see `crops`), at least one each way. An upright rectangle is cut and resized; else a perspective map takes it there."""
    wide, high = (float(side) for side in sides(quad))
    rows = height or max(1, round(high))
    columns = min(100 * rows, max(1, round(wide * rows / max(high, 1e-6))))
    x0, y0, x1, y1 = bounds(quad)
    margin = 2
    left, top = (int(np.floor(v)) - margin for v in (x0, y0))
    right, bottom = (int(np.ceil(v)) + margin for v in (x1, y1))
    part = _window(pixels, left, top, right, bottom)
    quad = quad - [left, top]
    if np.abs(quad - of_boxes(bounds(quad)[None])[0]).max() < 0.5:
        box = (x0 - left, y0 - top, max(x1, x0 + 1e-3) - left, max(y1, y0 + 1e-3) - top)
        return np.asarray(part.resize((columns, rows), Image.Resampling.BILINEAR, box=box))
    factor = max(1, int(min(high / rows, wide / columns)))
    if factor > 1:  # a transform reads four pixels for each it writes: what shrinks more is averaged before
        part, quad = part.reduce(factor), quad / factor
    back = perspective(of_boxes(np.array([[0, 0, columns, rows]]))[0], quad)
    return np.asarray(part.transform((columns, rows), Image.Transform.PERSPECTIVE, back.ravel()[:8].tolist(), Image.Resampling.BILINEAR))


def _window(pixels: np.ndarray, left: int, top: int, right: int, bottom: int) -> Image.Image:
    """Columns left..right - 1 and rows top..bottom - 1, the border repeated outside of the picture."""
    height, width = pixels.shape[:2]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))
    rows, columns = np.arange(top, bottom).clip(0, height - 1), np.arange(left, right).clip(0, width - 1)
    return Image.fromarray(pixels[rows[:, None], columns])


def perspective(source: np.ndarray | Sequence, target: np.ndarray | Sequence) -> np.ndarray:
    """3 x 3, its last number 1: the projective map that takes the four corners of `source` (4 2) to those of `target` (Hartley 2004, section 4.1).

    Where three corners of a quad lie on a line there is none; the affine map that comes nearest is given.
    """
    (x, y), (u, v) = np.asarray(source, np.float64).T, np.asarray(target, np.float64).T
    one, none = np.ones(4), np.zeros(4)
    rows = np.concatenate([
        np.stack([x, y, one, none, none, none, -u * x, -u * y], 1),
        np.stack([none, none, none, x, y, one, -v * x, -v * y], 1),
    ])  # fmt: skip
    wanted = np.concatenate([u, v])
    values = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    if np.abs(rows @ values - wanted).max() > 1e-3:
        values = np.append(np.linalg.lstsq(rows[:, :6], wanted, rcond=None)[0], [0, 0])
    return np.append(values, 1).reshape(3, 3)
