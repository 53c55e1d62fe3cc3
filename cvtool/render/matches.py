"""Two pictures side by side, and a line from each place of the first to what it is in the other: lime where the shift agrees, orange where not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from cvtool.render import palette, scene, text
from cvtool.render.canvas import Canvas

AGREES: palette.Colour = (200, 255, 90)
DIFFERS: palette.Colour = (255, 138, 31)
MOST = 100  # lines that are still told from each other


def draw(
    one: np.ndarray,
    other: np.ndarray,
    rows: Sequence[Sequence[float]],
    *,
    shift: Sequence[float] | None = None,
    within: float | None = None,
    scale: float | None = None,
    line_width: float | None = None,
    note: str = "",
) -> Image.Image:
    """Pictures H W 3 uint8; `rows` of x, y in the first and x, y in the second, in their own pixels; what else a row says is passed over.

    shift, within: a row agrees that moves by so much, both ways give or take `within`; without them all do. scale: both so many times as large, None
    enlarges small pictures. note: stands below.
    """
    factor = scene.enlargement((max(one.shape[1], other.shape[1]), max(one.shape[0], other.shape[0]))) if scale is None else scale
    left, right = (scene.enlarge(picture, factor) for picture in (one, other))
    gap = max(2, round(max(left.width, right.width) / 100))
    sheet = Image.new("RGB", (left.width + gap + right.width, max(left.height, right.height)), palette.INK)
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width + gap, 0))
    canvas, look = Canvas(sheet), scene.style(left.size, len(rows), line_width)
    ends = [((r[0] * factor, r[1] * factor), (r[2] * factor + left.width + gap, r[3] * factor)) for r in rows]
    good = [shift is None or within is None or max(abs(r[2] - r[0] - shift[0]), abs(r[3] - r[1] - shift[1])) <= within for r in rows]
    pairs = sorted(zip(good, ends, strict=True), key=lambda pair: pair[0])  # those that agree lie on top
    for agrees, points in pairs:
        canvas.line(points, look.line + 1.5, palette.INK, opacity=0.3)
        canvas.line(points, look.line, AGREES if agrees else DIFFERS, opacity=0.85 if agrees else 0.6)
    places = [(agrees, place) for agrees, points in pairs for place in points]
    for more, opacity in ((1.5, 0.6), (0.5, 1.0)):
        for agrees, (x, y) in places:
            colour = palette.INK if more > 1 else AGREES if agrees else DIFFERS
            canvas.disc(x, y, 1.2 * look.line + more, colour, opacity=opacity)
    if not note:
        return canvas.image
    return text.below(canvas.image, [text.title(canvas.image.width, note, "", max(scene.MIN_FONT, round(canvas.image.width / 60)))])
