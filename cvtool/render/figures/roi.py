"""RoIPool's two roundings of a box, beside RoIAlign, which rounds nothing.

Girshick 2015 (arXiv:1504.08083) and He 2017 (arXiv:1703.06870). On the left the box falls on the feature map, its corners are rounded to whole
cells (first rounding), and the bins are rounded outwards to whole cells again (second). On the right the bins are as they fall, and bilinear samples
in each are read from the four nearest cell centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image

from cvtool.errors import UsageError
from cvtool.render import text
from cvtool.render.canvas import Canvas
from cvtool.render.figures._page import Panel, numbers, page, positive, window
from cvtool.render.palette import INK, WHITE, Colour

OPTIONS = {
    "box": {"default": None, "metavar": "X,Y,W,H", "help": "the region, in pixels of the picture"},
    "stride": {"default": 16, "metavar": "N", "help": "pixels of the picture a feature cell stands for"},
    "size": {"default": 7, "metavar": "N", "help": "bins along each side"},
    "samples": {"default": 2, "metavar": "N", "help": "RoIAlign's samples along each side of a bin"},
}
EXACT: Colour = WHITE
SNAPPED: Colour = (255, 138, 31)
BINS: tuple[Colour, Colour] = ((38, 147, 255), (251, 208, 36))
SAMPLE: Colour = (165, 224, 46)
SIDE = 660  # pixels of a panel


def snap(box: Sequence[float], stride: float) -> tuple[int, int, int, int]:
    """RoIPool's first rounding: an xyxy box of the picture as whole cells (x0, y0, x1, y1), the end excluded; halves are rounded away from zero."""
    scaled = np.asarray(box, np.float32) / np.float32(stride)
    x0, y0, x1, y1 = (int(v) for v in np.sign(scaled) * np.floor(np.abs(scaled) + np.float32(0.5)))
    return x0, y0, max(x1, x0) + 1, max(y1, y0) + 1


def bins(first: int, end: int, size: int) -> list[tuple[int, int]]:
    """RoIPool's second rounding: `size` bins [start, end) over the cells [first, end), rounded outwards, so that neighbours may share a cell."""
    step = np.float32(end - first) / np.float32(size)
    return [(first + int(np.floor(i * step)), first + int(np.ceil((i + 1) * step))) for i in np.arange(size, dtype=np.float32)]


def samples(low: float, high: float, size: int, ratio: int) -> np.ndarray:
    """RoIAlign's sampling places along one axis of a box [low, high] (any unit): size ratio."""
    step = (high - low) / size
    return low + step * (np.arange(size)[:, None] + (np.arange(ratio)[None, :] + 0.5) / ratio)


def figure(picture: np.ndarray, *, box: str, stride: int, size: int, samples: int) -> Image.Image:
    """Both operations on the same region, as a page. Raises UsageError for a box that has no place on the picture."""
    x, y, w, h = numbers(box, "box", 4, above=None)
    height, width = picture.shape[:2]
    if w <= 0 or h <= 0 or x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise UsageError(f"--box {box}: no part of it lies on the picture of {width} x {height} pixels")
    positive(stride, "stride", 4096), positive(size, "size", 32), positive(samples, "samples", 8)
    if max(w, h) / stride > 200:
        raise UsageError(f"--box {box} is {max(w, h) / stride:.0f} cells wide; 200 can be drawn", hint="a larger --stride makes fewer")
    corners = (x, y, x + w, y + h)
    exact = tuple(v / stride for v in corners)
    snapped = snap(corners, stride)
    view = _View(picture, exact, snapped, stride)
    subtitle = f"a box of {w:g} x {h:g} pixels on a feature map of stride {stride}, into {size} x {size} bins"
    return page("What becomes of a region", subtitle, [_pool(view, exact, snapped, stride, size), _align(view, exact, stride, size, samples)])


class _View:
    """The part of the feature map that is drawn, and where a cell lies in the panel."""

    def __init__(self, picture: np.ndarray, exact: Sequence[float], snapped: Sequence[float], stride: int) -> None:
        low = [min(exact[i], snapped[i]) for i in (0, 1)]
        high = [max(exact[i], snapped[i]) for i in (2, 3)]
        side = max(high[0] - low[0], high[1] - low[1])
        side += max(2.4, 0.22 * side)
        self.x, self.y = ((a + b - side) / 2 for a, b in zip(low, high, strict=True))
        self.zoom = SIDE / side
        self.side = side
        self._ground = window(picture, self.x * stride, self.y * stride, side * stride, SIDE, shade=0.62)

    def canvas(self) -> Canvas:
        """The picture, darkened, under the grid of cells."""
        canvas = Canvas(self._ground.copy())
        faint = 0.3 if self.zoom > 14 else 0.16
        for start, at in ((self.x, self.at_x), (self.y, self.at_y)):
            for cell in range(int(np.ceil(start)), int(np.floor(start + self.side)) + 1):
                place = round(at(cell))
                box = (place, 0, place + 1, SIDE) if at == self.at_x else (0, place, SIDE, place + 1)
                canvas.fill(*box, WHITE, faint)
        return canvas

    def at_x(self, cell: float) -> float:
        return (cell - self.x) * self.zoom

    def at_y(self, cell: float) -> float:
        return (cell - self.y) * self.zoom

    def place(self, box: Sequence[float]) -> tuple[int, int, int, int]:
        return round(self.at_x(box[0])), round(self.at_y(box[1])), round(self.at_x(box[2])), round(self.at_y(box[3]))


def _pool(view: _View, exact: Sequence[float], snapped: tuple[int, int, int, int], stride: int, size: int) -> Panel:
    canvas = view.canvas()
    across, down = bins(snapped[0], snapped[2], size), bins(snapped[1], snapped[3], size)
    for j, (top, bottom) in enumerate(down):
        for i, (left, right) in enumerate(across):
            canvas.fill(*view.place((left, top, right, bottom)), BINS[(i + j) % 2], 0.26)
    canvas.ring(*view.place(snapped), 4, SNAPPED)
    canvas.dashes(*view.place(exact), 2, EXACT)
    for i, (first, end) in enumerate(across):
        _ruler(canvas, view, i, first, end, upright=False)
    for i, (first, end) in enumerate(down):
        _ruler(canvas, view, i, first, end, upright=True)
    moved = max(abs(snapped[i] - exact[i]) for i in range(4))
    shared = sum(max(0, a[1] - b[0]) for a, b in pairwise(across))
    wide, high = snapped[2] - snapped[0], snapped[3] - snapped[1]
    widths, heights = (" ".join(str(end - first) for first, end in edges) for edges in (across, down))
    lines: list[tuple[str, Colour | None]] = [
        (f"the box in cells: {exact[0]:.2f} to {exact[2]:.2f} across, {exact[1]:.2f} to {exact[3]:.2f} down", EXACT),
        (f"1st rounding: cells {snapped[0]} to {snapped[2]}, {snapped[1]} to {snapped[3]}; an edge moves {moved * stride:.0f} pixels", SNAPPED),
        (f"2nd rounding: {wide / size:.2f} x {high / size:.2f} cells a bin become {widths} wide", BINS[0]),
        (f"and {heights} high" + (f"; {shared} columns of cells belong to two bins" if shared else "; no cell belongs to two bins"), BINS[1]),
    ]
    return Panel(canvas.image, "RoIPool: the maximum of each bin", lines)


def _ruler(canvas: Canvas, view: _View, number: int, first: int, end: int, *, upright: bool) -> None:
    """A bar at the panel's edge as long as a bin, with its cells counted; neighbours lie in two lanes, so that what they share shows."""
    thick = 15
    at = view.at_y if upright else view.at_x
    low, high, lane = round(at(first)) + 1, round(at(end)) - 1, 4 + (thick + 3) * (number % 2)
    box = (lane, low, lane + thick, high) if upright else (low, lane, high, lane + thick)
    canvas.panel(*box, BINS[number % 2], radius=3)
    words = str(end - first)
    if high - low > 10:
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        text.write(canvas, x - text.width(words, 12) / 2, y, words, 12, INK, bold=True)


def _align(view: _View, exact: Sequence[float], stride: int, size: int, ratio: int) -> Panel:
    canvas = view.canvas()
    x0, y0, x1, y1 = exact
    across, down = np.linspace(x0, x1, size + 1), np.linspace(y0, y1, size + 1)
    for j in range(size):
        for i in range(size):
            box = (across[i], down[j], across[i + 1], down[j + 1])
            left, top, right, bottom = (f(v) for f, v in zip((view.at_x, view.at_y, view.at_x, view.at_y), box, strict=True))
            canvas.panel(left, top, right, bottom, BINS[(i + j) % 2], opacity=0.26)
    for edge in across:
        canvas.line([(view.at_x(edge), view.at_y(y0)), (view.at_x(edge), view.at_y(y1))], 1.6, EXACT, opacity=0.85)
    for edge in down:
        canvas.line([(view.at_x(x0), view.at_y(edge)), (view.at_x(x1), view.at_y(edge))], 1.6, EXACT, opacity=0.85)
    xs, ys = samples(x0, x1, size, ratio).ravel(), samples(y0, y1, size, ratio).ravel()
    radius = min(4.5, max(1.0, 0.16 * view.zoom * min(xs[-1] - xs[0], ys[-1] - ys[0]) / max(len(xs) - 1, 1) * 1.6))
    for y in ys:
        for x in xs:
            canvas.disc(view.at_x(x), view.at_y(y), radius + 0.8, INK, opacity=0.6)
            canvas.disc(view.at_x(x), view.at_y(y), radius, SAMPLE)
    x, y = float(xs[len(xs) // 2]), float(ys[len(ys) // 2])
    weights = _weights(x, y)
    for (cx, cy), weight in weights:
        canvas.line([(view.at_x(x), view.at_y(y)), (view.at_x(cx + 0.5), view.at_y(cy + 0.5))], 1.0 + 5.0 * weight, SNAPPED)
    for (cx, cy), weight in weights:
        canvas.disc(view.at_x(cx + 0.5), view.at_y(cy + 0.5), 3.0 + 4.0 * weight, INK)
        canvas.disc(view.at_x(cx + 0.5), view.at_y(cy + 0.5), 2.0 + 4.0 * weight, SNAPPED)
    canvas.disc(view.at_x(x), view.at_y(y), radius + 2.0, INK)
    canvas.disc(view.at_x(x), view.at_y(y), radius + 1.0, SAMPLE)
    shares = " + ".join(f"{weight:.2f}" for _, weight in weights)
    lines: list[tuple[str, Colour | None]] = [
        (f"the box stays: {x0:.2f} to {x1:.2f} across, {y0:.2f} to {y1:.2f} down", EXACT),
        (f"every bin is {(x1 - x0) / size:.2f} x {(y1 - y0) / size:.2f} cells", BINS[0]),
        (f"{ratio} x {ratio} bilinear samples a bin, their mean or maximum is its value", SAMPLE),
        (f"one sample, of four cell centres: {shares}", SNAPPED),
    ]
    return Panel(canvas.image, "RoIAlign: bilinear samples in each bin", lines)


def _weights(x: float, y: float) -> list[tuple[tuple[int, int], float]]:
    """The four cells whose centres surround a place (in cells), with their bilinear weights."""
    left, top = int(np.floor(x - 0.5)), int(np.floor(y - 0.5))
    u, v = x - 0.5 - left, y - 0.5 - top
    return [((left, top), (1 - u) * (1 - v)), ((left + 1, top), u * (1 - v)), ((left, top + 1), (1 - u) * v), ((left + 1, top + 1), u * v)]
