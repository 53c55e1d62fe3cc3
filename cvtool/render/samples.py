"""A sheet of generated pictures: a square of samples, or the table of a walk, a row for each way or number and a column for each step."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from cvtool.render import text
from cvtool.render.canvas import Canvas
from cvtool.render.palette import WHITE, Colour

GROUND: Colour = (18, 20, 25)
FAINT: Colour = (172, 178, 190)
LEAST, LIMIT, FONT, GAP = 64, 8000, 14, 4  # pixels: the least side of a picture, the sheet's largest, of letters, between pictures


class Sheet:
    """Pictures are added in order; `image` draws what came. Rows and columns have names, or none."""

    def __init__(self) -> None:
        self.cells: list[tuple[str, str, np.ndarray]] = []

    def add(self, pixels: np.ndarray, row: str = "", column: str = "") -> None:
        """One more, H W 3 uint8."""
        self.cells.append((row, column, pixels))

    def rows(self) -> list[tuple[str, list[tuple[str, np.ndarray]]]]:
        """Name and pictures of each row: those of one name, or as many as make a square."""
        if not any(row for row, _, _ in self.cells):
            wide = math.ceil(math.sqrt(len(self.cells)))
            return [("", [(c, p) for _, c, p in self.cells[i : i + wide]]) for i in range(0, len(self.cells), wide)]
        found: dict[str, list[tuple[str, np.ndarray]]] = {}
        for row, column, pixels in self.cells:
            found.setdefault(row, []).append((column, pixels))
        return list(found.items())

    def image(self) -> Image.Image:
        """The sheet. Small pictures are enlarged by whole numbers; where there are too many for `LIMIT` pixels, all are made smaller."""
        rows = self.rows()
        wide, high = max(len(cells) for _, cells in rows), len(rows)
        height, width = (max(p.shape[axis] for _, _, p in self.cells) for axis in (0, 1))
        zoom = float(max(1, math.ceil(LEAST / max(width, height))))
        zoom = max(min(zoom, (LIMIT / wide - GAP) / width, (LIMIT / high - GAP) / height), 1 / max(width, height))
        across, down = max(1, round(width * zoom)), max(1, round(height * zoom))
        left = max((text.width(name, FONT) for name, _ in rows), default=0)
        left += 2 * GAP + (FONT if left else 0)
        named = across >= 24 and len({tuple(c for c, _ in cells) for _, cells in rows}) == 1 and any(c for c, _ in rows[0][1])
        top = GAP + (2 * FONT if named else 0)
        canvas = Canvas(Image.new("RGB", (round(left) + wide * (across + GAP), top + high * (down + GAP)), GROUND))
        for j, (column, _) in enumerate(rows[0][1] if named else ()):
            x = left + j * (across + GAP) + (across - text.width(column, FONT)) / 2
            text.write(canvas, x, top - FONT * 0.9, column, FONT, FAINT)
        for i, (name, cells) in enumerate(rows):
            y = top + i * (down + GAP)
            text.write(canvas, 2 * GAP, y + down / 2, name, FONT, WHITE)
            for j, (_, pixels) in enumerate(cells):
                kind = Image.Resampling.NEAREST if zoom >= 1 and zoom == int(zoom) else Image.Resampling.LANCZOS
                cell = Image.fromarray(pixels).resize((round(pixels.shape[1] * zoom) or 1, round(pixels.shape[0] * zoom) or 1), kind)
                canvas.image.paste(cell, (round(left) + j * (across + GAP), y))
        return canvas.image
