"""Patch embedding: a picture cut into patches, each a token, in rows; what a transformer reads instead of pixels.

Dosovitskiy 2020 (arXiv:2010.11929), section 3.1: a patch is flattened to C P^2 numbers and multiplied by one matrix.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from cvtool.errors import UsageError
from cvtool.render import text
from cvtool.render.canvas import Canvas
from cvtool.render.figures._page import GROUND, Panel, page, positive
from cvtool.render.palette import INK, WHITE, Colour

OPTIONS = {
    "patch": {"default": 16, "metavar": "N", "help": "pixels a side of a patch"},
    "side": {"default": 224, "metavar": "N", "help": "pixels a side of the picture as the network sees it"},
}
SIDE = 760


def figure(picture: np.ndarray, *, patch: int, side: int) -> Image.Image:
    """The square middle of the picture, its patches drawn apart and numbered, and what attention over them costs."""
    positive(side, "side", 1024), positive(patch, "patch", side)
    count = side // patch
    if count > 64:
        raise UsageError(f"--patch {patch}: {count * count} patches; 4096 can be drawn", hint="a larger --patch makes fewer")
    height, width = picture.shape[:2]
    edge = min(height, width)
    left, top = (width - edge) // 2, (height - edge) // 2
    square = Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS, box=(left, top, left + edge, top + edge))
    gap = max(1, SIDE // (count * 12))
    zoom = max(1, (SIDE - gap * (count - 1)) // count)
    canvas = Canvas(Image.new("RGB", (count * (zoom + gap) - gap,) * 2, GROUND))
    size = max(8, min(13, zoom // 3))
    for j in range(count):
        for i in range(count):
            part = square.crop((i * patch, j * patch, (i + 1) * patch, (j + 1) * patch)).resize((zoom, zoom), Image.Resampling.BICUBIC)
            x, y = i * (zoom + gap), j * (zoom + gap)
            canvas.image.paste(part, (x, y))
            word = str(j * count + i)
            if (wide := text.width(word, size)) < zoom - 6 and zoom > 24:
                canvas.fill(x, y, x + wide + 5, y + size + 4, INK, 0.6)
                text.write(canvas, x + 2, y + size / 2 + 2, word, size, WHITE)
    tokens, pixels = count * count, side * side
    lines: list[tuple[str, Colour | None]] = [
        (f"{side} x {side} pixels in patches of {patch} x {patch}: {count} x {count} = {tokens:,} tokens of {3 * patch * patch} values", None),
        (f"attention over them: {tokens * tokens:,} weights a head and layer, {_bytes(2 * tokens * tokens)} in 16 bits", None),
        (f"over pixels: {pixels * pixels:,} weights, {_bytes(2 * pixels * pixels)}; 12 layers of 8 heads: {_bytes(96 * 2 * pixels * pixels)}", None),
    ]
    if left_over := side - count * patch:
        lines.append((f"{left_over} pixels at the right and the bottom belong to no patch", None))
    return page("Patches are tokens", "read in rows, with a position each", [Panel(canvas.image, "", lines)])


def _bytes(count: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}" if count < 100 * scale else f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
