"""What figures share: numbers from options, and panels with a title and lines of text on a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from cvtool.errors import UsageError
from cvtool.render import text
from cvtool.render.canvas import Canvas
from cvtool.render.palette import WHITE, Colour

GROUND: Colour = (18, 20, 25)
FAINT: Colour = (172, 178, 190)


@dataclass
class Panel:
    """A drawing with a title over it and lines under it; a line's colour marks what it speaks of with a dot (None: no dot)."""

    image: Image.Image
    title: str
    lines: list[tuple[str, Colour | None]] = field(default_factory=list)


def numbers(value: str, option: str, count: int | None = None, *, above: float | None = 0.0) -> list[float]:
    """`1,2,3` as floats. Raises UsageError for anything else, for another count, and for a number that is not above `above`."""
    try:
        found = [float(part) for part in str(value).split(",")]
    except ValueError as error:
        raise UsageError(f"--{option} takes numbers with commas between, not '{value}'") from error
    if (count is not None and len(found) != count) or not np.isfinite(found).all():
        raise UsageError(f"--{option} takes {count or 'some'} finite numbers with commas between, not '{value}'")
    if above is not None and min(found) <= above:
        raise UsageError(f"--{option}: {min(found):g} is not above {above:g}")
    return found


def positive(value: int, option: str, most: int) -> int:
    """A whole number from 1 to `most`. Raises UsageError."""
    if not 1 <= value <= most:
        raise UsageError(f"--{option}: {value} is not between 1 and {most}")
    return value


def window(picture: np.ndarray, x: float, y: float, side: float, pixels: int, *, shade: float = 1.0) -> Image.Image:
    """The square of `side` picture pixels at (x, y) as `pixels` x `pixels`; what lies outside the picture is ground. shade: brightness."""
    image = Image.fromarray(picture)
    out = Image.new("RGB", (pixels, pixels), tuple(v + 14 for v in GROUND))
    zoom = pixels / side
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + side, image.width), min(y + side, image.height)
    if right > left and bottom > top:
        size = max(1, round((right - left) * zoom)), max(1, round((bottom - top) * zoom))
        kind = Image.Resampling.BICUBIC if zoom > 1 else Image.Resampling.LANCZOS
        part = image.resize(size, kind, box=(left, top, right, bottom)).point(lambda v: round(v * shade))
        out.paste(part, (round((left - x) * zoom), round((top - y) * zoom)))
    return out


def page(title: str, subtitle: str, panels: Sequence[Panel], *, font: int = 17, columns: int = 0) -> Image.Image:
    """The panels side by side under a heading, in rows of `columns` (0: one row)."""
    margin, line = round(font * 1.7), round(font * 1.65)
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)] if columns else [panels]
    named = round(font * 2.3) if any(panel.title for panel in panels) else 0
    heights = [max(named + panel.image.height + len(panel.lines) * line for panel in row) + margin for row in rows]
    head = round(font * 5.2)
    width = max(sum(panel.image.width for panel in row) + margin * (len(row) + 1) for row in rows)
    canvas = Canvas(Image.new("RGB", (width, head + sum(heights) + font), GROUND))
    text.write(canvas, margin, font * 1.9, text.shorten(title, round(font * 1.5), width - 2 * margin), round(font * 1.5), WHITE, bold=True)
    text.write(canvas, margin, font * 3.8, text.shorten(subtitle, font, width - 2 * margin), font, FAINT)
    top = head
    for row, height in zip(rows, heights, strict=True):
        x = margin
        for panel in row:
            _place(canvas, panel, x, top, named, font, line)
            x += panel.image.width + margin
        top += height
    return canvas.image


def _place(canvas: Canvas, panel: Panel, x: int, top: int, named: int, font: int, line: int) -> None:
    """A panel with its title over it and its lines under it."""
    text.write(canvas, x, top + font * 0.9, panel.title, round(font * 1.2), WHITE, bold=True)
    canvas.image.paste(panel.image, (x, top + named))
    y = top + named + panel.image.height + font * 1.3
    for words, colour in panel.lines:
        start = x
        if colour is not None:
            canvas.disc(x + font * 0.4, y, font * 0.36, colour)
            start = x + round(font * 1.3)
        text.write(canvas, start, y, text.shorten(words, font, panel.image.width - (start - x)), font, FAINT if colour is None else WHITE)
        y += line
