"""Curves over two axes, for panels of figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from cvtool.render import text
from cvtool.render.canvas import Canvas
from cvtool.render.figures._page import FAINT
from cvtool.render.palette import Colour

Curve = tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray, Colour]  # xs, ys, colour


def chart(
    curves: Sequence[Curve], *, across: tuple[float, float], up: tuple[float, float], x: str = "", y: str = "", size: tuple[int, int] = (520, 420),
    font: int = 15,
) -> Image.Image:  # fmt: skip
    """The curves over the ranges `across` and `up` with round numbers on a grid; what leaves the ranges is cut off. x, y: what the axes count."""
    width, height = size
    left, bottom, top, right = font * 4, font * 4, font * 2, font
    canvas = Canvas(Image.new("RGB", size, (32, 34, 39)))

    def place(a: float, b: float) -> tuple[float, float]:
        return (left + (a - across[0]) / (across[1] - across[0]) * (width - left - right),
                height - bottom - (b - up[0]) / (up[1] - up[0]) * (height - top - bottom))  # fmt: skip

    for tick in ticks(*across):
        at = round(place(tick, up[0])[0])
        canvas.fill(at, top, at + 1, height - bottom, FAINT, 0.16)
        said = f"{tick:g}"
        text.write(canvas, at - text.width(said, font) / 2, height - bottom + font * 1.1, said, font, FAINT)
    for tick in ticks(*up):
        at = round(place(across[0], tick)[1])
        canvas.fill(left, at, width - right, at + 1, FAINT, 0.16)
        text.write(canvas, left - font * 0.6, at, f"{tick:g}", font, FAINT, right=True)
    text.write(canvas, width - right, height - font * 1.1, x, font, FAINT, right=True)
    text.write(canvas, font * 0.6, font * 1.0, y, font, FAINT)
    for xs, ys, colour in reversed(curves):  # the first on top
        a, b = np.asarray(xs, float), np.asarray(ys, float)
        inside = (a >= across[0]) & (a <= across[1])
        canvas.line([place(float(p), float(np.clip(q, *up))) for p, q in zip(a[inside], b[inside], strict=True)], 2.6, colour)
    return canvas.image


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers within [low, high], about `count` of them."""
    power = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(power * m for m in (1, 2, 5, 10) if power * m * count >= (high - low) * (1 - 1e-9))
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
