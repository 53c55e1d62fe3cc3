"""Distributions of errors of two design spaces as a picture: which share of the models lies below an error (Radosavovic 2019, arXiv:1905.13214)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from cvtool.render.curves import COLOURS
from cvtool.render.text import clean

SCALE = 2  # drawn twice as large and shrunk, for smooth lines
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 560, 400, 60, 70, 46, 24
INK, FAINT, GRID = (33, 37, 41), (134, 142, 150), (233, 236, 239)


def draw(curves: Mapping[str, Mapping[str, Sequence[float]]], names: Mapping[str, str], *, title: str = "error distribution") -> Image.Image:
    """curves: name -> `error` and `share`, the corners of stairs in [0, 1]. names: what each is called in the legend."""
    out = Image.new("RGB", ((LEFT + WIDTH + RIGHT) * SCALE, (TOP + HEIGHT + BOTTOM) * SCALE), "white")
    pen = ImageDraw.Draw(out)
    large, font, small = (ImageFont.load_default(points * SCALE) for points in (17, 13, 12))
    pen.text((16 * SCALE, 12 * SCALE), clean(title), fill=INK, font=large)
    for step in range(11):
        x, y = _place(step / 10, step / 10)
        pen.line([(LEFT * SCALE, y), ((LEFT + WIDTH) * SCALE, y)], fill=GRID, width=SCALE)
        pen.line([(x, TOP * SCALE), (x, (TOP + HEIGHT) * SCALE)], fill=GRID, width=SCALE)
        if step % 2 == 0:
            pen.text(((LEFT - 8) * SCALE, y), f"{step / 10:.1f}", fill=FAINT, font=small, anchor="rm")
            pen.text((x, (TOP + HEIGHT + 7) * SCALE), f"{step / 10:.1f}", fill=FAINT, font=small, anchor="mt")
    pen.text(((LEFT + WIDTH) * SCALE, (TOP + HEIGHT + 24) * SCALE), "error", fill=INK, font=small, anchor="rt")
    pen.text((16 * SCALE, (TOP - 8) * SCALE), "models below it", fill=INK, font=small, anchor="lb")
    right = (LEFT + WIDTH) * SCALE
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        points = [_place(x, y) for x, y in zip(curve["error"], curve["share"], strict=True)]
        pen.line(points, fill=colour, width=2 * SCALE, joint="curve")
        label = clean(names.get(name, name))[-40:]
        pen.text((right, (TOP - 10) * SCALE), label, fill=colour, font=font, anchor="rb")
        right -= int(pen.textlength(label, font=font)) + 18 * SCALE
    return out.resize((out.width // SCALE, out.height // SCALE), Image.Resampling.LANCZOS)


def _place(error: float, share: float) -> tuple[float, float]:
    return (LEFT + error * WIDTH) * SCALE, (TOP + (1 - share) * HEIGHT) * SCALE
