"""Boxes on a canvas."""

from __future__ import annotations

from cvtool.render.canvas import Canvas
from cvtool.render.palette import INK, Colour

Box = tuple[float, float, float, float]  # x0, y0, x1, y1


def edges(box: Box) -> tuple[int, int, int, int]:
    """The box on whole pixels: edges rounded, at least one pixel wide and high."""
    x0, y0, x1, y1 = (round(min(max(v, -1e6), 1e6)) for v in box)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def draw(canvas: Canvas, box: Box, colour: Colour, line: int, *, dashed: bool = False, radius: float = 0.0) -> None:
    """The outline of a box: `line` pixels wide, its outer edge on the box's own, with a thin dark rim that keeps it visible on any ground.

    Around a box so small that the line would hide what is in it, the line runs outside.
    dashed: for regions that are no single object (COCO's crowds).
    """
    x0, y0, x1, y1 = edges(box)
    rim = max(1, round(line / 3))
    tiny = min(x1 - x0, y1 - y0) < 6 * line
    if tiny:
        x0, y0, x1, y1 = x0 - line, y0 - line, x1 + line, y1 + line
    canvas.ring(x0 - rim, y0 - rim, x1 + rim, y1 + rim, rim, INK, radius=radius + rim if radius else 0, opacity=0.3)
    if not tiny:
        canvas.ring(x0 + line, y0 + line, x1 - line, y1 - line, rim, INK, radius=max(radius - line, 0), opacity=0.3)
    if dashed:
        canvas.dashes(x0, y0, x1, y1, line, colour)
    else:
        canvas.ring(x0, y0, x1, y1, line, colour, radius=radius)
