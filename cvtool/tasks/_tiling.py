"""Looking at a large picture through overlapping windows, and making one result of many.

Windows are of `tile` x `tile` pixels of the original, each repeating `overlap` of its side from the one before; the last of a row or column is
flush with the picture's edge. A picture that fits into one window is seen as without tiling.

A model may say with how many pixels of `context` around it a window's map is exactly that of the whole picture (U-Net's overlap-tile strategy:
Ronneberger 2015, arXiv:1505.04597, fig. 2). Its windows of `tile` x `tile` overlap by twice that, and only their insides are kept: no seam.

The rule by which objects of different windows are one object (`same_object`): they are of one class and either their boxes overlap by more than
`iou`, or one of them is cut, that is, it touches an edge of its window which is not the picture's, and at least `CONTAINED` of its area lies in the
other. Whole objects win over cut ones, then the higher score wins. An object larger than the overlap may be cut in every window and is then
found in parts: let the overlap exceed the objects. Objects of one window are never compared: the model has done that itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cvtool.results import Boxes, Instances, Result, SemanticMap

CONTAINED = 0.7
EDGE = 2.0  # pixels: how near a box must come to its window's edge to count as cut


@dataclass(frozen=True)
class Window:
    """A part of a picture: its left top corner and its size, in the picture's pixels."""

    left: int
    top: int
    width: int
    height: int

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


def windows(width: int, height: int, tile: int | None, overlap: float = 0.2) -> list[Window]:
    """The windows over a picture, row by row; `tile` None gives one."""
    if tile is None:
        return [Window(0, 0, width, height)]
    return [Window(left, top, min(tile, width), min(tile, height)) for top in starts(height, tile, overlap) for left in starts(width, tile, overlap)]


def starts(side: int, tile: int, overlap: float) -> list[int]:
    """Where the windows along one side begin: evenly, the last one flush with the end."""
    if side <= tile:
        return [0]
    step = max(1, round(tile * (1 - overlap)))
    return [*range(0, side - tile, step), side - tile]


def inside(width: int, height: int, tile: int, context: int, step: int) -> list[tuple[Window, Window]]:
    """The windows over a picture, row by row: each as seen, at most `tile` pixels a side, and its inside, which is kept. Insides do not overlap.

    Between the two lie `context` pixels, where the picture does not end before. Windows and insides begin at multiples of `step`, so that a network
    that halves its maps divides each window as it would divide the picture. [] where `tile` leaves no inside.
    """
    core = (tile - 2 * context) // step * step
    if core <= 0:
        return []

    def spans(side: int) -> list[tuple[int, int, int, int]]:  # seen from, to; kept from, to
        if side <= tile:
            return [(0, side, 0, side)]
        return [(max(0, at - context), min(side, at + core + context), at, min(side, at + core)) for at in range(0, side, core)]

    return [
        (Window(left, top, right - left, bottom - top), Window(first, upper, last - first, lower - upper))
        for top, bottom, upper, lower in spans(height)
        for left, right, first, last in spans(width)
    ]


@dataclass(frozen=True)
class Pasted:
    """An object's mask, kept as the part of it inside its window that is not empty: `mask` (h w bool) at (left, top) of the picture."""

    left: int
    top: int
    mask: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, window: Window) -> Pasted:
        """From an h w mask over a window."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return cls(window.left, window.top, np.zeros((0, 0), dtype=bool))
        part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
        return cls(window.left + int(columns[0]), window.top + int(rows[0]), part)

    def full(self, width: int, height: int) -> np.ndarray:
        """The mask over the whole picture: H W bool."""
        whole = np.zeros((height, width), dtype=bool)
        whole[self.top : self.top + self.mask.shape[0], self.left : self.left + self.mask.shape[1]] = self.mask
        return whole


@dataclass(frozen=True)
class Part:
    """What a model says of one window, in the picture's pixels; masks are put aside as `Pasted`, one an object."""

    window: Window
    result: Result
    masks: list[Pasted] | None = None

    @classmethod
    def of(cls, window: Window, result: Result) -> Part:
        """From a result in the window's own pixels (numpy arrays)."""
        if not isinstance(result, Boxes):
            return cls(window, result)
        corner = np.array([window.left, window.top], dtype=np.float32)
        changes: dict[str, np.ndarray | None] = {"boxes": np.asarray(result.boxes, dtype=np.float32).reshape(-1, 4) + np.tile(corner, 2)}
        masks = None
        if isinstance(result, Instances):
            if result.keypoints is not None:
                changes["keypoints"] = np.asarray(result.keypoints, dtype=np.float32) + np.append(corner, np.float32(0))
            if result.masks is not None:
                masks = [Pasted.of(np.asarray(mask), window) for mask in result.masks]
                changes["masks"] = None
        return cls(window, replace(result, **changes), masks)

    def only(self, window: Window) -> Part:
        """The part of a map that lies in `window`, which is inside of this one."""
        inner = replace(window, left=window.left - self.window.left, top=window.top - self.window.top)
        return Part(window, self.result.map(inner.cut), self.masks)


def merge(parts: Sequence[Part], width: int, height: int, *, iou: float = 0.5, max_det: int | None = None) -> tuple[Result, list[Pasted] | None]:
    """One result for the whole picture, best score first, and its objects' masks where there are any."""
    first = parts[0].result
    if isinstance(first, SemanticMap):
        return _merge_maps(parts, width, height), None
    if not isinstance(first, Boxes):
        raise TypeError(f"{type(first).__name__} cannot be put together from windows")
    joined = {}
    for name in first.per_object:
        values = [getattr(part.result, name) for part in parts]
        joined[name] = None if any(value is None for value in values) else np.concatenate([np.asarray(value) for value in values])
    whole = replace(first, **joined)
    origin = np.repeat(np.arange(len(parts)), [len(part.result) for part in parts])  # type: ignore[arg-type]
    cut = np.concatenate([_is_cut(part, width, height) for part in parts]) if len(parts) else np.zeros(0, bool)
    scores = np.ones(len(origin), np.float32) if whole.scores is None else np.asarray(whole.scores)
    keep = same_object(np.asarray(whole.boxes, dtype=np.float64), np.asarray(whole.labels), scores, origin, cut, iou)
    keep = keep[np.argsort(-scores[keep], kind="stable")][:max_det]
    masks = [mask for part in parts for mask in part.masks or ()]
    return whole[keep], [masks[i] for i in keep] if all(part.masks is not None for part in parts) else None


def _is_cut(part: Part, width: int, height: int) -> np.ndarray:
    """N bool: which objects touch an edge of the window that is not the picture's."""
    assert isinstance(part.result, Boxes)
    w, boxes = part.window, np.asarray(part.result.boxes).reshape(-1, 4)
    left = (w.left > 0) & (boxes[:, 0] < w.left + EDGE)
    top = (w.top > 0) & (boxes[:, 1] < w.top + EDGE)
    right = (w.left + w.width < width) & (boxes[:, 2] > w.left + w.width - EDGE)
    bottom = (w.top + w.height < height) & (boxes[:, 3] > w.top + w.height - EDGE)
    return left | top | right | bottom


def same_object(boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray, origin: np.ndarray, cut: np.ndarray, iou: float) -> np.ndarray:
    """Indices of the objects that stay when those that are one object in several windows are reduced to one (the module's rule).

    boxes: N 4 xyxy; labels, scores: N; origin: N, the window's number; cut: N bool.
    """
    order = np.lexsort((-scores, cut))  # whole objects first, then by score
    areas = np.maximum(0, boxes[:, 2] - boxes[:, 0]) * np.maximum(0, boxes[:, 3] - boxes[:, 1])
    alive = np.ones(len(boxes), dtype=bool)
    keep = []
    for i in order:
        if not alive[i]:
            continue
        keep.append(i)
        rest = np.flatnonzero(alive & (labels == labels[i]) & (origin != origin[i]))
        sides = np.minimum(boxes[rest, 2:], boxes[i, 2:]) - np.maximum(boxes[rest, :2], boxes[i, :2])
        common = np.maximum(0, sides).prod(axis=1)
        union = areas[rest] + areas[i] - common
        smaller = np.minimum(areas[rest], areas[i])
        smaller_is_cut = np.where(areas[rest] <= areas[i], cut[rest], cut[i])
        same = (common > iou * union) | (smaller_is_cut & (common >= CONTAINED * smaller) & (smaller > 0))
        alive[rest[same]] = False
    return np.array(keep, dtype=np.int64)


def _merge_maps(parts: Sequence[Part], width: int, height: int) -> SemanticMap:
    """Each pixel from the window that is surest of it; without scores, from the one in which it lies farthest from the edge."""
    labels = np.zeros((height, width), dtype=np.int64)
    best = np.full((height, width), -1, dtype=np.float32)
    scored = all(isinstance(part.result, SemanticMap) and part.result.scores is not None for part in parts)
    for part in parts:
        assert isinstance(part.result, SemanticMap)
        scores = np.asarray(part.result.scores, dtype=np.float32) if scored else _depth(part.window)
        here_best, here_labels = part.window.cut(best), part.window.cut(labels)
        better = scores > here_best
        here_best[better] = scores[better]
        here_labels[better] = np.asarray(part.result.labels)[better]
    return SemanticMap(labels, best if scored else None)


def _depth(window: Window) -> np.ndarray:
    """h w float32: distance of each pixel from the window's edge."""
    across = np.minimum(np.arange(window.width), np.arange(window.width)[::-1])
    down = np.minimum(np.arange(window.height), np.arange(window.height)[::-1])
    return np.minimum(down[:, None], across[None, :]).astype(np.float32)
