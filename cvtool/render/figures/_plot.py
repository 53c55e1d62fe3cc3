"""A small chart: axes with round numbers, and lines over them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from cvtool.render import text
from cvtool.render.canvas import Canvas
from cvtool.render.figures._page import FAINT, GROUND
from cvtool.render.palette import Colour

FIELD: Colour = (30, 33, 40)
LEFT, BELOW, ABOVE, RIGHT = 58, 30, 10, 12
SMALL = 13  # the numbers' font
FINER = 3  # pixels of the sheet a pixel


class Plot:
    """A chart of `width` x `height` pixels over [x0, x1] x [y0, y1]. logarithmic: the height counts powers of ten; y0 > 0 then."""

    def __init__(self, width: int, height: int, across: tuple[float, float], up: tuple[float, float], *, logarithmic: bool = False) -> None:
        self.canvas = Canvas(Image.new("RGB", (width, height), GROUND))
        self.across, self.up, self.logarithmic = across, up, logarithmic
        self.field = (LEFT, ABOVE, width - RIGHT, height - BELOW)
        self.canvas.fill(*self.field, FIELD)
        for tick in rounds(*across):
            x = self.x(tick)
            self.canvas.line([(x, self.field[1]), (x, self.field[3])], 1, FAINT, opacity=0.45 if tick == 0 else 0.14)
            self._words(f"{tick:g}", x, self.field[3] + 14, middle=True)
        for tick in powers(*up) if logarithmic else rounds(*up):
            y = self.y(tick)
            self.canvas.line([(self.field[0], y), (self.field[2], y)], 1, FAINT, opacity=0.45 if tick == 0 else 0.14)
            self._words(f"{tick:.0e}" if logarithmic else f"{tick:g}", self.field[0] - 7, y, middle=False)

    @property
    def image(self) -> Image.Image:
        return self.canvas.image

    def x(self, value: float) -> float:
        """A value's place, in pixels."""
        return self.field[0] + (value - self.across[0]) / (self.across[1] - self.across[0]) * (self.field[2] - self.field[0])

    def y(self, value: float) -> float:
        low, high = self.up
        if self.logarithmic:
            value, low, high = (math.log10(max(v, 1e-300)) for v in (value, low, high))
        return self.field[3] - (value - low) / (high - low) * (self.field[3] - self.field[1])

    def line(self, xs: Sequence[float], ys: Sequence[float], colour: Colour, *, width: float = 2.5, opacity: float = 1.0, dots: bool = False) -> None:
        """Through the points; what leaves the field is drawn on its border, and what is not finite is left out."""
        points = []
        for x, y in zip(xs, ys, strict=True):
            if math.isfinite(y) or y == math.inf:
                inside = min(max(y, self.up[0]), self.up[1])
                points.append((self.x(x), self.y(inside)))
        if len(points) > 1:  # at once on a larger sheet: a curve has hundreds of pieces
            wide, high = self.canvas.size
            sheet = Image.new("L", (FINER * wide, FINER * high))
            ImageDraw.Draw(sheet).line([(FINER * a, FINER * b) for a, b in points], fill=255, width=round(FINER * width), joint="curve")
            self.canvas.stamp(np.asarray(sheet.reduce(FINER)), 0, 0, colour, opacity)
        for a, b in points if dots or len(points) == 1 else ():
            self.canvas.disc(a, b, width * 1.6, colour, opacity=opacity)

    def band(self, x0: float, x1: float, colour: Colour, opacity: float = 0.12) -> None:
        """A stretch of the axis, marked from top to bottom."""
        self.canvas.fill(round(self.x(x0)), self.field[1], round(self.x(x1)), self.field[3], colour, opacity)

    def label(self, words: str) -> None:
        """What the axis across counts."""
        text.write(self.canvas, self.field[2], self.field[3] - 12, words, SMALL, FAINT, right=True)

    def _words(self, words: str, x: float, y: float, *, middle: bool) -> None:
        start = x - text.width(words, SMALL) / 2 if middle else x
        text.write(self.canvas, start, y, words, SMALL, FAINT, right=not middle)


def rounds(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers in [low, high], about `count`."""
    power = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(power * m for m in (1, 2, 5, 10) if power * m * count >= high - low)
    return [float(i * step) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def powers(low: float, high: float, count: int = 7) -> list[float]:
    """Powers of ten in [low, high], at most about `count`."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = max(1, -(-(last - first) // count))
    return [10.0**e for e in range(first, last + 1) if e % step == 0]


def contours(values: np.ndarray, levels: int = 26) -> np.ndarray:
    """H W heights -> H W 3 uint8: shades by height, the same share of the picture in each, with a thin line between."""
    order = np.quantile(values, np.linspace(0, 1, levels + 1)[1:-1])
    band = np.searchsorted(order, values)
    edge = np.zeros(values.shape, bool)
    edge[:, 1:] |= band[:, 1:] != band[:, :-1]
    edge[1:] |= band[1:] != band[:-1]
    share = band / (levels - 1)
    low, high = np.array((22, 48, 76)), np.array((96, 70, 84))
    out = low + share[..., None] * (high - low) + edge[..., None] * 26
    return out.clip(0, 255).astype(np.uint8)
