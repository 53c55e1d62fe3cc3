"""A contact sheet: every picture with its name, in rows of one height, in bounded memory however many there are."""

from __future__ import annotations

import math

from PIL import Image

from cvtool.render import text
from cvtool.render.canvas import Canvas
from cvtool.render.palette import Colour

GROUND: Colour = (18, 20, 25)
NAME: Colour = (200, 205, 214)
BROADEST = 3.2  # a picture is at most so many times as wide as rows are high
SHAPE = 1.35  # of the sheet, width to height, about
TALLEST = 1.8  # and, with the strips below it, so many times as high


class ContactSheet:
    """Pictures side by side, in the order in which they come.

    limit: no more than limit^2 pixels are ever held, so that the sheet is about limit x limit at most. Rows begin `height` pixels high and become
    lower as more pictures come, down to `least`; those that come after that are only counted, and the sheet says so.
    """

    def __init__(self, *, limit: int = 4096, height: int = 360, least: int = 48) -> None:
        self.limit, self.height, self.least = limit, height, least
        self.count = 0
        self._cells: list[tuple[str, Image.Image]] = []
        self._pixels = 0
        self.full = False

    def scale(self, size: tuple[int, int]) -> float:
        """How large to draw a picture of (width, height), so that it needs no scaling in its row."""
        return min(self.height / size[1], BROADEST * self.height / size[0])

    def add(self, name: str, image: Image.Image) -> None:
        """One more picture; too large a one is made smaller."""
        self.count += 1
        if self.full:
            return
        self._keep(name, image)
        while self._pixels > 0.9 * self.limit**2 and not self.full:
            if self.height <= self.least:
                self.full = True
                break
            lower = max(self.least, int(0.75 * self.height))
            kept, factor = self._cells, lower / self.height
            self.height, self._cells, self._pixels = lower, [], 0
            for known, cell in kept:
                self._keep(known, _resized(cell, factor))

    def pass_over(self) -> None:
        """Count a picture that was not drawn because the sheet is full."""
        self.count += 1

    def _keep(self, name: str, image: Image.Image) -> None:
        cell = _resized(image, min(1.0, BROADEST * self.height / image.width, TALLEST * self.height / image.height))
        self._cells.append((name, cell))
        self._pixels += (cell.width + _gap(self.height)) * (cell.height + self._below())

    def _below(self) -> int:
        """Room for names and the gap under them."""
        return round(2.0 * self._font()) + _gap(self.height) if self._named() else _gap(self.height)

    def _named(self) -> bool:
        return self.height >= 90

    def _font(self) -> int:
        return max(11, min(15, round(self.height / 20)))

    def rows(self) -> list[list[tuple[str, Image.Image]]]:
        """The pictures, row by row, for a sheet somewhat wider than high whose last row is not much shorter than the others."""
        gap = _gap(self.height)
        widths = [cell.width + gap for _, cell in self._cells]
        widest, ideal = max(widths, default=1) + gap, math.sqrt(SHAPE * self._pixels)
        rooms = {max(widest, min(round(ideal * part / 20), self.limit)) for part in range(12, 41)}
        room = min(sorted(rooms), key=lambda room: self._waste(self._pack(room)))
        return self._pack(room)

    def _pack(self, room: int) -> list[list[tuple[str, Image.Image]]]:
        """As many in a row as fit."""
        gap = _gap(self.height)
        found: list[list[tuple[str, Image.Image]]] = [[]]
        used = gap
        for name, cell in self._cells:
            if found[-1] and used + cell.width + gap > room:
                found.append([])
                used = gap
            found[-1].append((name, cell))
            used += cell.width + gap
        return found

    def _waste(self, rows: list[list[tuple[str, Image.Image]]]) -> float:
        """How far rows are from the ideal: empty space, and a sheet too wide or too high."""
        gap = _gap(self.height)
        widths = [sum(cell.width + gap for _, cell in row) for row in rows]
        height = sum(max((cell.height for _, cell in row), default=0) + self._below() for row in rows)
        empty = 1 - sum(widths) / (max(widths) * len(widths)) if max(widths) else 0.0
        return 2.0 * empty + abs(math.log(max(max(widths), 1) / max(height, 1) / SHAPE))

    def image(self) -> Image.Image:
        """The sheet: rows as wide as the widest, what is left over shared out between the pictures of a row (but for the last)."""
        gap, font, named = _gap(self.height), self._font(), self._named()
        rows = self.rows()
        width = max(sum(cell.width + gap for _, cell in row) for row in rows) + gap
        heights = [max((cell.height for _, cell in row), default=0) + self._below() for row in rows]
        left_out = self.count - len(self._cells)
        foot = round(2.4 * font) if left_out else 0
        canvas = Canvas(Image.new("RGB", (max(width, 1), sum(heights) + gap + foot), GROUND))
        y = gap
        for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
            spare = width - gap - sum(cell.width + gap for _, cell in row)
            extra = spare / (len(row) - 1) if len(row) > 1 and number < len(rows) - 1 else 0.0
            x = float(gap)
            for name, cell in row:
                canvas.image.paste(cell, (round(x), y))
                if named:
                    shown = _shortened(text.clean(name), font, cell.width)
                    text.write(canvas, x + (cell.width - text.width(shown, font)) / 2, y + cell.height + 1.05 * font, shown, font, NAME)
                x += cell.width + gap + extra
            y += height
        if left_out:
            text.write(canvas, gap, y + foot / 2 - gap / 2, f"and {left_out:,} more", font, NAME, bold=True)
        return canvas.image


def _gap(height: int) -> int:
    return max(2, round(height / 30))


def _resized(image: Image.Image, factor: float) -> Image.Image:
    if factor >= 1.0:
        return image
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _shortened(name: str, size: int, room: float) -> str:
    """A file name shortened in its middle, for beginnings are alike and ends tell them apart."""
    if text.width(name, size) <= room:
        return name
    for keep in range(min(len(name) - 1, 120), 2, -1):
        short = name[: keep // 3] + "…" + name[len(name) - (keep - keep // 3) :]
        if text.width(short, size) <= room:
            return short
    return ""
