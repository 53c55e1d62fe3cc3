"""Learned anchors as a picture: every box as a point, the anchors among them, their outlines on one centre, and how the fit rises with k."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cvtool.render.palette import instance

SCALE = 2  # drawn twice as large and shrunk
SIDE, MARGIN, TOP, BOTTOM = 420, 64, 64, 48
POINTS = 6000  # boxes drawn at most
INK, FAINT, GRID = (33, 37, 41), (134, 142, 150), (233, 236, 239)


def draw(sizes: np.ndarray, owners: np.ndarray, anchors: np.ndarray, curve: Sequence[float], *, title: str) -> Image.Image:
    """sizes: N 2 widths and heights; owners: of each the number of its anchor; anchors: K 2; curve: mean IoU for 1 .. K anchors."""
    out = Image.new("RGB", ((3 * (SIDE + MARGIN) + MARGIN) * SCALE, (SIDE + TOP + BOTTOM) * SCALE), "white")
    pen = ImageDraw.Draw(out)
    pen.text((MARGIN * SCALE, 14 * SCALE), title, fill=INK, font=_font(17))
    _scatter(pen, MARGIN, sizes, owners, anchors)
    _outlines(pen, 2 * MARGIN + SIDE, anchors)
    _curve(pen, 3 * MARGIN + 2 * SIDE, curve)
    return out.resize((out.width // SCALE, out.height // SCALE), Image.Resampling.LANCZOS)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size * SCALE)


def _scatter(pen: ImageDraw.ImageDraw, left: int, sizes: np.ndarray, owners: np.ndarray, anchors: np.ndarray) -> None:
    high = float(max(np.quantile(sizes, 0.998), anchors.max() * 1.1))
    shown = np.random.default_rng(0).permutation(len(sizes))[:POINTS]

    def place(x: float, y: float) -> tuple[float, float]:
        return (left + min(x / high, 1) * SIDE) * SCALE, (TOP + SIDE - min(y / high, 1) * SIDE) * SCALE

    _axes(pen, left, _ticks(high), high, f"width, pixels ({min(len(sizes), POINTS):,} of {len(sizes):,} boxes)", "height")
    for (x, y), owner in zip(sizes[shown].tolist(), owners[shown].tolist(), strict=True):
        a, b = place(x, y)
        colour = tuple(round(255 - (255 - v) * 0.45) for v in instance(owner))
        pen.ellipse([a - 1.5 * SCALE, b - 1.5 * SCALE, a + 1.5 * SCALE, b + 1.5 * SCALE], fill=colour)
    for number, (x, y) in enumerate(anchors.tolist()):
        a, b = place(x, y)
        pen.ellipse([a - 6 * SCALE, b - 6 * SCALE, a + 6 * SCALE, b + 6 * SCALE], fill=instance(number), outline=INK, width=SCALE)


def _outlines(pen: ImageDraw.ImageDraw, left: int, anchors: np.ndarray) -> None:
    pen.text((left * SCALE, (TOP - 20) * SCALE), f"{len(anchors)} anchors, to scale, with width x height", fill=FAINT, font=_font(12))
    room = SIDE - 84  # the words stand beside
    zoom = room / float(anchors.max())
    x, y = left + room / 2, TOP + SIDE / 2
    for number in np.argsort(-anchors.prod(1), kind="stable").tolist():
        w, h = anchors[number] * zoom
        corners = [(x - w / 2) * SCALE, (y - h / 2) * SCALE, (x + w / 2) * SCALE, (y + h / 2) * SCALE]
        pen.rectangle(corners, outline=instance(number), width=2 * SCALE)
    for number, (w, h) in enumerate(anchors.tolist()):
        words = f"{w:.0f} x {h:.0f}"
        pen.text(((left + SIDE - 2) * SCALE, (TOP + 10 + 16 * number) * SCALE), words, fill=instance(number), font=_font(12), anchor="rm")


def _curve(pen: ImageDraw.ImageDraw, left: int, curve: Sequence[float]) -> None:
    count = len(curve)
    low = np.floor(min(curve) * 10) / 10

    def place(k: int, value: float) -> tuple[float, float]:
        return (left + k / (count + 0.5) * SIDE) * SCALE, (TOP + SIDE - (value - low) / (1 - low) * SIDE) * SCALE

    for tenth in range(round(low * 20), 21):
        y = place(1, tenth / 20)[1]
        pen.line([(left * SCALE, y), ((left + SIDE) * SCALE, y)], fill=GRID, width=SCALE)
        pen.text(((left - 8) * SCALE, y), f"{tenth / 20:.2f}", fill=FAINT, font=_font(12), anchor="rm")
    for k in range(1, count + 1):
        if count <= 15 or k % 5 == 0:
            pen.text((place(k, low)[0], (TOP + SIDE + 8) * SCALE), str(k), fill=FAINT, font=_font(12), anchor="mt")
    points = [place(k, value) for k, value in enumerate(curve, 1)]
    pen.line(points, fill=(31, 111, 235), width=2 * SCALE, joint="curve")
    for x, y in points:
        pen.ellipse([x - 3 * SCALE, y - 3 * SCALE, x + 3 * SCALE, y + 3 * SCALE], fill=(31, 111, 235))
    pen.text((left * SCALE, (TOP - 20) * SCALE), f"mean IoU with the best of k anchors: {curve[-1]:.3f} for k = {count}", fill=FAINT, font=_font(12))
    pen.text(((left + SIDE) * SCALE, (TOP + SIDE + 30) * SCALE), "k", fill=FAINT, font=_font(12), anchor="rm")


def _axes(pen: ImageDraw.ImageDraw, left: int, ticks: Sequence[float], high: float, across: str, up: str) -> None:
    for tick in ticks:
        x, y = (left + tick / high * SIDE) * SCALE, (TOP + SIDE - tick / high * SIDE) * SCALE
        pen.line([(left * SCALE, y), ((left + SIDE) * SCALE, y)], fill=GRID, width=SCALE)
        pen.line([(x, TOP * SCALE), (x, (TOP + SIDE) * SCALE)], fill=GRID, width=SCALE)
        pen.text(((left - 8) * SCALE, y), f"{tick:g}", fill=FAINT, font=_font(12), anchor="rm")
        pen.text((x, (TOP + SIDE + 8) * SCALE), f"{tick:g}", fill=FAINT, font=_font(12), anchor="mt")
    pen.text(((left + SIDE) * SCALE, (TOP + SIDE + 30) * SCALE), across, fill=FAINT, font=_font(12), anchor="rm")
    pen.text((left * SCALE, (TOP - 20) * SCALE), up, fill=FAINT, font=_font(12))


def _ticks(high: float) -> list[float]:
    """Round numbers from 0, at most seven."""
    power = 10.0 ** np.floor(np.log10(high / 6))
    step = next(power * m for m in (1, 2, 5, 10) if high / (power * m) <= 6)
    return [float(step * i) for i in range(int(high / step) + 1)]
