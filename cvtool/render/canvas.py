"""Anti-aliased shapes on a Pillow image: every shape is a map of coverage (0..1 a pixel), computed exactly from distances, then blended.

Coordinates are pixels of the canvas; a pixel (i, j) covers [i, i+1] x [j, j+1] and its centre is at +0.5. Colours are sRGB triples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image

from cvtool.render.palette import Colour

Point = tuple[float, float]


class Canvas:
    """An RGB picture to draw on. Whatever leaves it is cut off."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image if image.mode == "RGB" else image.convert("RGB")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.image.size

    def stamp(self, coverage: np.ndarray, x: int, y: int, colour: Colour, opacity: float = 1.0) -> None:
        """Blend `colour` in where `coverage` (h w, float 0..1, bool or uint8 0..255) says, its top left pixel at (x, y)."""
        width, height = self.size
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + coverage.shape[1], width), min(y + coverage.shape[0], height)
        if right <= left or bottom <= top or opacity <= 0:
            return
        part = coverage[top - y : bottom - y, left - x : right - x]
        if part.dtype == np.bool_:
            part = part.view(np.uint8) * np.uint8(round(255 * opacity))
        elif part.dtype == np.uint8:
            part = part if opacity >= 1 else (part * np.float32(opacity) + 0.5).astype(np.uint8)
        else:
            part = (np.clip(part, 0, 1) * np.float32(255 * opacity) + 0.5).astype(np.uint8)
        self.image.paste(colour, (left, top, right, bottom), Image.fromarray(np.ascontiguousarray(part)))

    def fill(self, x0: int, y0: int, x1: int, y1: int, colour: Colour, opacity: float = 1.0) -> None:
        """A plain rectangle of whole pixels [x0, x1) x [y0, y1)."""
        width, height = self.size
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if x1 <= x0 or y1 <= y0:
            return
        if opacity >= 1:
            self.image.paste(colour, (x0, y0, x1, y1))
        else:
            self.image.paste(colour, (x0, y0, x1, y1), Image.new("L", (x1 - x0, y1 - y0), round(255 * opacity)))

    def panel(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, *, radius: float = 0.0, opacity: float = 1.0) -> None:
        """A filled rectangle with round corners and soft edges."""
        left, top, right, bottom = math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)
        width, height = self.size
        left, top, right, bottom = max(left, -8), max(top, -8), min(right, width + 8), min(bottom, height + 8)
        if right > left and bottom > top:
            self.stamp(_rounded(left, top, right, bottom, (x0, y0, x1, y1), radius), left, top, colour, opacity)

    def ring(self, x0: int, y0: int, x1: int, y1: int, width: int, colour: Colour, *, radius: float = 0.0, opacity: float = 1.0) -> None:
        """The outline of a rectangle, `width` pixels wide, its outer edge on [x0, x1) x [y0, y1). Sides are crisp, round corners are soft."""
        width = max(1, min(width, (x1 - x0 + 1) // 2, (y1 - y0 + 1) // 2))
        corner = min(max(math.ceil(radius), width), (x1 - x0) // 2, (y1 - y0) // 2)
        if radius <= 0 or corner <= width:
            self.fill(x0, y0, x1, y0 + width, colour, opacity)
            self.fill(x0, y1 - width, x1, y1, colour, opacity)
            self.fill(x0, y0 + width, x0 + width, y1 - width, colour, opacity)
            self.fill(x1 - width, y0 + width, x1, y1 - width, colour, opacity)
            return
        self.fill(x0 + corner, y0, x1 - corner, y0 + width, colour, opacity)
        self.fill(x0 + corner, y1 - width, x1 - corner, y1, colour, opacity)
        self.fill(x0, y0 + corner, x0 + width, y1 - corner, colour, opacity)
        self.fill(x1 - width, y0 + corner, x1, y1 - corner, colour, opacity)
        inner = (x0 + width, y0 + width, x1 - width, y1 - width)
        for left, top in ((x0, y0), (x1 - corner, y0), (x0, y1 - corner), (x1 - corner, y1 - corner)):
            place = (left, top, left + corner, top + corner)
            outside = _rounded(*place, (x0, y0, x1, y1), radius)
            self.stamp(outside - np.minimum(_rounded(*place, inner, max(radius - width, 0.0)), outside), left, top, colour, opacity)

    def dashes(self, x0: int, y0: int, x1: int, y1: int, width: int, colour: Colour, *, opacity: float = 1.0) -> None:
        """The outline of a rectangle in dashes of about four widths, with gaps of about three; corners are always drawn."""
        width = max(1, min(width, (x1 - x0 + 1) // 2, (y1 - y0 + 1) // 2))
        for start, end in _dashes(x1 - x0, width):
            self.fill(x0 + start, y0, x0 + end, y0 + width, colour, opacity)
            self.fill(x0 + start, y1 - width, x0 + end, y1, colour, opacity)
        for start, end in _dashes(y1 - y0, width):
            top, bottom = max(y0 + start, y0 + width), min(y0 + end, y1 - width)
            self.fill(x0, top, x0 + width, bottom, colour, opacity)
            self.fill(x1 - width, top, x1, bottom, colour, opacity)

    def line(self, points: Sequence[Point], width: float, colour: Colour, *, opacity: float = 1.0) -> None:
        """A line through the points with round ends and joints."""
        far = 4.0 * max(self.size)  # what lies that far out is no line on this picture
        for p, q in pairwise(points):
            if all(abs(v) < far for v in (*p, *q)):
                self.stamp(*_capsule(p, q, width / 2, self.size), colour, opacity)

    def disc(self, x: float, y: float, radius: float, colour: Colour, *, opacity: float = 1.0) -> None:
        """A filled circle."""
        self.stamp(*_capsule((x, y), (x, y), radius, self.size), colour, opacity)

    def circle(self, x: float, y: float, radius: float, width: float, colour: Colour, *, opacity: float = 1.0) -> None:
        """A circle's outline; `radius` is that of its outer edge."""
        coverage, left, top = _capsule((x, y), (x, y), radius, self.size)
        hole, inner_left, inner_top = _capsule((x, y), (x, y), max(radius - width, 0.0), self.size)
        if coverage.size and hole.size:
            rows = slice(inner_top - top, inner_top - top + hole.shape[0])
            columns = slice(inner_left - left, inner_left - left + hole.shape[1])
            coverage[rows, columns] = np.maximum(coverage[rows, columns] - hole, 0)
        self.stamp(coverage, left, top, colour, opacity)


def _rounded(left: int, top: int, right: int, bottom: int, box: tuple[float, float, float, float], radius: float) -> np.ndarray:
    """Coverage of the pixels [left, right) x [top, bottom) by a rectangle with round corners."""
    x0, y0, x1, y1 = box
    if x1 <= x0 or y1 <= y0:
        return np.zeros((bottom - top, right - left), np.float32)
    radius = min(radius, (x1 - x0) / 2, (y1 - y0) / 2)
    if radius <= 0:
        return _overlap(top, bottom, y0, y1)[:, None] * _overlap(left, right, x0, x1)[None, :]
    x = np.arange(left, right, dtype=np.float32) + 0.5
    y = np.arange(top, bottom, dtype=np.float32) + 0.5
    dx = np.abs(x - (x0 + x1) / 2) - ((x1 - x0) / 2 - radius)
    dy = np.abs(y - (y0 + y1) / 2) - ((y1 - y0) / 2 - radius)
    outside = np.hypot(np.maximum(dx, 0)[None, :], np.maximum(dy, 0)[:, None])
    inside = np.minimum(np.maximum(dx[None, :], dy[:, None]), 0)
    return np.clip(radius + 0.5 - outside - inside, 0, 1)


def _overlap(start: int, end: int, low: float, high: float) -> np.ndarray:
    """How much of each pixel [i, i+1), i = start..end-1, lies in [low, high]."""
    edges = np.arange(start, end, dtype=np.float32)
    return np.clip(np.minimum(edges + 1, high) - np.maximum(edges, low), 0, 1)


def _capsule(p: Point, q: Point, radius: float, size: tuple[int, int]) -> tuple[np.ndarray, int, int]:
    """Coverage of all points within `radius` of the segment p q, and the place of its top left pixel."""
    left, right = (f(v) for f, v in ((math.floor, min(p[0], q[0]) - radius - 1), (math.ceil, max(p[0], q[0]) + radius + 1)))
    top, bottom = (f(v) for f, v in ((math.floor, min(p[1], q[1]) - radius - 1), (math.ceil, max(p[1], q[1]) + radius + 1)))
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])
    if right <= left or bottom <= top or radius <= 0:
        return np.zeros((0, 0), np.float32), left, top
    x = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - p[0]))[None, :]
    y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - p[1]))[:, None]
    dx, dy = q[0] - p[0], q[1] - p[1]
    length = dx * dx + dy * dy
    if length > 0:
        along = np.clip((x * np.float32(dx) + y * np.float32(dy)) / np.float32(length), 0, 1)
        distance = np.hypot(x - along * np.float32(dx), y - along * np.float32(dy))
    else:
        distance = np.hypot(x, y)
    # a line thinner than a pixel keeps a pixel's width and becomes fainter instead
    return np.clip(max(radius, 0.5) + 0.5 - distance, 0, 1) * np.float32(min(1.0, 2 * radius)), left, top


def _dashes(length: int, width: int) -> list[tuple[int, int]]:
    """Where the dashes of a side lie: they begin and end it."""
    dash = max(4 * width, 3)
    count = max(1, round((length / dash - 1) / 1.75))
    if length <= 2 * dash:
        return [(0, max(1, length // 3)), (length - max(1, length // 3), length)]
    gap = (length - dash * (count + 1)) / count
    return [(round(i * (dash + gap)), round(i * (dash + gap)) + dash) for i in range(count + 1)]
