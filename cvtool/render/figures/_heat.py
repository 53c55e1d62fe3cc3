"""What figures of numbers share: colours for values, matrices as cells, and a picture brought to a panel's size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from cvtool.render import text
from cvtool.render.canvas import Canvas
from cvtool.render.palette import INK, WHITE

# inferno's course (Smith and van der Walt 2015): even steps of lightness, readable in gray and to colour-blind eyes
_HEAT = np.array([(8, 8, 20), (51, 13, 92), (108, 25, 110), (163, 44, 96), (212, 72, 66), (243, 120, 25), (252, 180, 26), (247, 250, 165)], float)
_SIGNED = np.array([(64, 132, 238), (44, 78, 128), (24, 26, 32), (138, 62, 44), (244, 122, 66)], float)  # blue below zero, orange above


def heat(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """... -> ... 3 uint8: black for `low` (the least value), yellow for `high` (the largest)."""
    values = np.asarray(values, float)
    low, high = (values.min() if low is None else low), (values.max() if high is None else high)
    return _between(_HEAT, (values - low) / (high - low or 1.0))


def signed(values: np.ndarray, most: float | None = None) -> np.ndarray:
    """... -> ... 3 uint8: dark for 0, blue below, orange above, full at `most` (the largest size)."""
    values = np.asarray(values, float)
    return _between(_SIGNED, values / (2 * (most or np.abs(values).max() or 1.0)) + 0.5)


def _between(table: np.ndarray, share: np.ndarray) -> np.ndarray:
    place = np.clip(share, 0, 1) * (len(table) - 1)
    first = np.minimum(place.astype(int), len(table) - 2)
    part = (place - first)[..., None]
    return np.round(table[first] * (1 - part) + table[first + 1] * part).astype(np.uint8)


def cells(colours: np.ndarray, width: int, words: Sequence[Sequence[str]] | None = None, *, gap: int = 0) -> Image.Image:
    """h w 3 uint8 as squares, about `width` pixels wide in all, with `words` in them where they fit, and `gap` pixels between."""
    rows, columns = colours.shape[:2]
    side = max(1, width // columns)
    image = Image.fromarray(np.ascontiguousarray(colours)).resize((columns * side, rows * side), Image.Resampling.NEAREST)
    canvas = Canvas(image)
    if gap and side > 3 * gap:
        for i in range(1, columns):
            canvas.fill(i * side - gap // 2, 0, i * side - gap // 2 + gap, rows * side, (18, 20, 25))
        for j in range(1, rows):
            canvas.fill(0, j * side - gap // 2, columns * side, j * side - gap // 2 + gap, (18, 20, 25))
    if words is not None:
        size = max(9, min(20, side * 2 // 5))
        for j, row in enumerate(words):
            for i, word in enumerate(row):
                if (wide := text.width(word, size)) < side - 2:
                    ink = WHITE if colours[j, i].astype(float) @ (0.299, 0.587, 0.114) < 140 else INK
                    text.write(canvas, (i + 0.5) * side - wide / 2, (j + 0.5) * side, word, size, ink)
    return canvas.image


def fitted(picture: np.ndarray, side: int) -> np.ndarray:
    """H W 3 uint8 with its longer edge brought to `side` pixels."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    kind = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize(size, kind))


def gray(picture: np.ndarray) -> np.ndarray:
    """H W 3 uint8 -> H W float64, luma in 0..255."""
    return picture.astype(float) @ (0.299, 0.587, 0.114)
