"""Text on pictures: fonts, tags beside objects that stay inside the picture and off each other, legends and captions under it.

The font is the one that Pillow carries (Aileron). Where it lacks a character, the first font of the system that has them all is taken
(DejaVu, Noto, or what Windows and macOS bring); without one, Pillow's box for a missing character shows.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cvtool.render.canvas import Canvas, Point
from cvtool.render.palette import INK, WHITE, Colour, on

Box = tuple[float, float, float, float]  # x0, y0, x1, y1
_SYSTEM = (  # names that Pillow looks up in the system's font folders, widest coverage last
    "DejaVuSans.ttf NotoSans-Regular.ttf Arial.ttf arial.ttf LiberationSans-Regular.ttf NotoSansCJK-Regular.ttc NotoSansSC-Regular.otf msyh.ttc "
    "YuGothM.ttc PingFang.ttc AppleGothic.ttf NotoSansArabic-Regular.ttf NotoSansDevanagari-Regular.ttf ArialUnicode.ttf arialuni.ttf unifont.ttf"
)
_PANEL: Colour = (24, 26, 32)
_FAINT: Colour = (168, 174, 186)
_BAR: Colour = (48, 52, 62)


def clean(text: object) -> str:
    """Text for one line: no line breaks, tabs, control or direction characters, or halves of surrogate pairs."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in str(text)).split())


@cache
def _builtin(size: int) -> Any:
    try:
        return ImageFont.load_default(size)
    except ImportError:  # a Pillow built without FreeType has one small bitmap font
        return ImageFont.load_default()


@cache
def _system(name: str, size: int) -> Any:
    try:
        return ImageFont.truetype(name, size)
    except (OSError, ImportError):
        return None


@cache
def _lacks(name: str | None, character: str) -> bool:
    """Whether a font (None: the built-in) draws its box for a missing character instead of this one."""
    font = _builtin(16) if name is None else _system(name, 16)
    if not isinstance(font, ImageFont.FreeTypeFont):
        return not character.isascii()
    missing, drawn = font.getmask("\U0010fffe"), font.getmask(character)
    return not character.isspace() and missing.size == drawn.size and bytes(missing) == bytes(drawn)


@cache
def font_for(text: str, size: int) -> Any:
    """The font, `size` pixels high, in which this text can be drawn best."""
    characters = sorted({c for c in text if not c.isascii()})
    if not characters or not any(_lacks(None, c) for c in characters):
        return _builtin(size)
    for name in _SYSTEM.split():
        if _system(name, 16) is not None and not any(_lacks(name, c) for c in characters):
            return _system(name, size)
    return _builtin(size)


def _finer(size: int) -> int:
    """How many times larger small text is set before it is scaled down: its letters then keep their shapes and distances."""
    return 6 if size <= 16 else 4 if size <= 26 else 2 if size <= 52 else 1


def width(text: str, size: int) -> int:
    """Pixels that the text needs across."""
    times = _finer(size)
    return math.ceil(font_for(text, size * times).getlength(text) / times) if text else 0


def shorten(text: str, size: int, room: float) -> str:
    """The text, with an ellipsis where it is wider than `room` pixels; empty where not even one character fits."""
    if width(text, size) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if width(text[:middle].rstrip() + "…", size) <= room else (low, middle - 1)
    return text[:low].rstrip() + "…" if low else ""


def write(canvas: Canvas, x: float, middle: float, text: str, size: int, colour: Colour, *, right: bool = False, bold: bool = False) -> None:
    """One line of text whose capitals are centred on the height `middle`; x is its left end, or with `right` its right end."""
    if not text:
        return
    coverage, ascent, capital, bearing = _set(text, size, bold)
    left = x - (width(text, size) if right else 0)
    canvas.stamp(coverage, round(left) - bearing, round(middle + capital / 2) - ascent, colour)


@lru_cache(maxsize=512)
def _set(text: str, size: int, bold: bool) -> tuple[np.ndarray, int, int, int]:
    """Coverage (h w uint8) of a line of text, the height of its base line in it, that of a capital, and what stands left of the origin."""
    times = _finer(size)
    font = font_for(text, size * times)
    if not isinstance(font, ImageFont.FreeTypeFont):
        mask = font.getmask(text.encode("ascii", "replace").decode(), "L")
        return np.asarray(mask, np.uint8).reshape(mask.size[1], mask.size[0]), mask.size[1] - 2, mask.size[1] - 3, 0
    weight = max(1, round(0.016 * size * times)) if bold else 0
    ascent, descent, bearing = (math.ceil(v / times) + 1 for v in (*font.getmetrics(), 0.25 * size * times))
    across = math.ceil(font.getlength(text) / times) + 2 * bearing
    sheet = Image.new("L", (across * times, (ascent + descent) * times))
    ImageDraw.Draw(sheet).text((bearing * times, ascent * times), text, fill=255, font=font, anchor="ls", stroke_width=weight)
    if times > 1:
        sheet = sheet.resize((across, ascent + descent), Image.Resampling.LANCZOS)
    return np.asarray(sheet), ascent, round(-font.getbbox("H", anchor="ls")[1] / times), bearing


@dataclass
class Tag:
    """A label for the object in `box`: a text that may be shortened and a note (its score) that may not.

    `place` sets where its top left pixel goes, or None where there is no room at all.
    """

    text: str
    colour: Colour
    box: Box
    size: int  # of the font, in pixels
    note: str = ""
    centred: bool = False  # on the box instead of beside it
    tips: tuple[Point, Point] | None = None  # upper and lower point at which a shape may be labelled instead of its box
    rank: float = 0.0  # which tags stay where there is no room for all: the highest
    at: tuple[int, int] | None = None

    @property
    def pad(self) -> int:
        return max(3, round(self.size * 0.36))

    @property
    def words(self) -> str:
        return f"{self.text} {self.note}".strip()

    @property
    def wide(self) -> int:
        return width(self.words, self.size) + 2 * self.pad

    @property
    def high(self) -> int:
        return round(self.size * 1.42) + 1

    def fit(self, room: float) -> None:
        """Shorten the text, not the note, to this many pixels, and drop the note where even that does not do."""
        spare = room - 2 * self.pad - (width(" " + self.note, self.size) if self.note else 0)
        short = shorten(self.text, self.size, spare)
        if not short and self.note:
            self.note = ""
            short = shorten(self.text, self.size, room - 2 * self.pad)
        self.text = short


def place(tags: Sequence[Tag], size: tuple[int, int], *, obstacles: np.ndarray | None = None, share: float = math.inf) -> int:
    """Give every tag a place inside a picture of (width, height); returns how many got none.

    A tag prefers to stand on its box's upper left corner, then other places at its box; what it would cover of tags placed before, of other objects
    (`obstacles`, N 4 xyxy) and of its own object counts against a place. Small objects choose first, for they have the fewest places.
    share: where the tags would cover a larger part of the picture than this, only those of the highest rank are placed, and none on another.
    """
    others = np.zeros((0, 4), np.float32) if obstacles is None else np.asarray(obstacles, np.float32).reshape(-1, 4)
    # a large object loses nothing to a tag that lies in it
    others = others[_area(others) < 0.25 * size[0] * size[1]]
    areas = np.maximum(_area(others), 1.0)
    for tag in tags:
        tag.at = None
        tag.fit(min(size[0], max(0.5 * size[0], tag.box[2] - tag.box[0], 12.0 * tag.size)))
    crowded = sum(tag.wide * tag.high for tag in tags) > share * size[0] * size[1]
    left = share * size[0] * size[1]
    taken = np.zeros((0, 4), np.float32)
    ordered = sorted(tags, key=lambda tag: (-tag.rank if crowded else 0.0, _box_area(tag.box)))
    if crowded:  # of very many, those that could get a place at all
        ordered = ordered[: 100 + round(4 * left / max(1, min(tag.wide * tag.high for tag in tags)))]
    for tag in ordered:
        wide, high = tag.wide, tag.high
        if not tag.text or wide > size[0] or high > size[1] or (crowded and wide * high > left):
            continue
        wished = _around(tag.box, wide, high) if tag.centred else _candidates(tag, wide, high)
        spots = np.clip(wished, 0, np.array([size[0] - wide, size[1] - high], np.float32)).round()
        cost = 0.035 * np.arange(len(spots), dtype=np.float32) + 0.5 * np.abs(spots - wished).sum(1) / high
        rectangles = np.concatenate([spots, spots + np.array([wide, high], np.float32)], axis=1)
        covered = _shared(rectangles, taken) / (wide * high)
        cost += 8.0 * covered.sum(1) + 0.25 * (covered > 0).any(1)
        hidden = np.minimum(_shared(rectangles, others) / areas, 1.0)
        cost += 1.5 * hidden.sum(1)
        best = int(cost.argmin())
        if crowded and (covered[best].sum() > 0.02 or hidden[best].max(initial=0.0) > 0.6):
            continue
        tag.at = (int(spots[best, 0]), int(spots[best, 1]))
        taken = np.concatenate([taken, rectangles[best : best + 1]])
        left -= wide * high
    return sum(tag.at is None for tag in tags)


def _box_area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _candidates(tag: Tag, wide: int, high: int) -> np.ndarray:
    """Top left corners (n 2) at which a tag may stand, the most wanted first: tips, above, inside, below, beside, then along the sides."""
    x0, y0, x1, y1 = tag.box
    right, low = x1 - wide, y1 - high
    spots = []
    if tag.tips is not None:
        (top_x, top), (bottom_x, bottom) = tag.tips
        gap = max(1, round(0.2 * tag.size))
        spots = [(top_x - wide / 2, top - high - gap), (top_x - 0.15 * wide, top - high - gap), (top_x - 0.85 * wide, top - high - gap)]
        spots += [(top_x - wide / 2, top + gap), (bottom_x - wide / 2, bottom + gap)]
    spots += [(x0, y0 - high), (x0, y0), (right, y0 - high), (right, y0), (x0, y1), (x0, low), (right, y1), (right, low), (x1, y0), (x0 - wide, y0)]
    spots += [(x1, low), (x0 - wide, low), ((x0 + right) / 2, y0 - high), ((x0 + right) / 2, y1), ((x0 + right) / 2, (y0 + low) / 2)]
    if x1 - x0 > 2 * wide:
        spots += [(x0 + (right - x0) * part, y) for part in (0.25, 0.75) for y in (y0, y0 - high, low)]
    if y1 - y0 > 3 * high:
        spots += [(x, y0 + (low - y0) * part) for part in (0.25, 0.5, 0.75) for x in (x0, right)]
    return np.asarray(spots, np.float32)


def _around(box: Box, wide: int, high: int) -> np.ndarray:
    """Top left corners (n 2) of a tag on the middle of the box or near it."""
    x, y = (box[0] + box[2] - wide) / 2, (box[1] + box[3] - high) / 2
    shifts = sorted(((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)), key=_spread)
    return np.asarray([(x + i * wide / 2, y + j * high) for i, j in shifts], np.float32)


def _spread(shift: tuple[int, int]) -> int:
    return 2 * abs(shift[0]) + abs(shift[1])


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Area that each of a (n 4) shares with each of b (m 4): n m."""
    across = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    down = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    return np.maximum(across, 0) * np.maximum(down, 0)


def draw_tag(canvas: Canvas, tag: Tag) -> None:
    """The tag: a filled panel in the object's colour, the text in white or ink."""
    if tag.at is None:
        return
    x, y = tag.at
    canvas.panel(x, y, x + tag.wide, y + tag.high, tag.colour, radius=max(1.5, tag.size * 0.2))
    write(canvas, x + tag.pad, y + tag.high / 2, tag.words, tag.size, on(tag.colour), bold=True)


def legend(across: int, entries: Sequence[tuple[str, Colour, str]], size: int) -> Image.Image:
    """A strip `across` pixels wide that explains colours: a swatch, a name and a faint note an entry, in rows."""
    gap, line = round(size * 0.9), round(size * 1.75)
    room = max(across - 2 * gap, 1)
    cells = []
    for name, colour, note in entries:
        shown = shorten(name, size, room - size * 1.5)
        note = note if width(shown, size) + width(note, size) + size * 2.2 <= room else ""
        cells.append((shown, colour, note, round(size * 1.5) + width(shown, size) + (width(note, size) + round(size * 0.5) if note else 0)))
    rows: list[list[tuple[str, Colour, str, int]]] = [[]]
    used = 0
    for cell in cells:
        if rows[-1] and used + cell[3] > room:
            rows.append([])
            used = 0
        rows[-1].append(cell)
        used += cell[3] + round(size * 1.3)
    canvas = Canvas(Image.new("RGB", (across, line * len(rows) + gap), _PANEL))
    for i, row in enumerate(rows):
        x, middle = gap, gap / 2 + line * (i + 0.5)
        for name, colour, note, wide in row:
            canvas.panel(x, middle - size * 0.5, x + size, middle + size * 0.5, colour, radius=size * 0.22)
            write(canvas, x + size * 1.5, middle, name, size, WHITE, bold=True)
            write(canvas, x + wide, middle, note, size, _FAINT, right=True)
            x += wide + round(size * 1.3)
    return canvas.image


def caption(across: int, rows: Sequence[tuple[str, float | None, Colour]], size: int) -> Image.Image:
    """A strip `across` pixels wide with what is said of the whole picture: a name, its score and a bar as long as the score, a row each."""
    gap, line = round(size * 0.9), round(size * 2.05)
    canvas = Canvas(Image.new("RGB", (across, line * len(rows) + gap), _PANEL))
    for i, (name, score, colour) in enumerate(rows):
        top = gap / 2 + line * i
        middle, x0, x1 = top + line * 0.42, gap, max(across - gap, gap + 1)
        value = "" if score is None else f"{score:.3f}" if score < 0.1 else f"{score:.2f}"
        value = value if width(value, size) < 0.5 * (x1 - x0) else ""
        room = x1 - x0 - (width(value, size) + size if value else 0)
        if score is None:
            canvas.panel(x0, middle - size * 0.5, x0 + size, middle + size * 0.5, colour, radius=size * 0.22)
            write(canvas, x0 + size * 1.5, middle, shorten(name, size, room - size * 1.5), size, WHITE, bold=True)
            continue
        write(canvas, x0, middle, shorten(name, size, room), size, WHITE, bold=True)
        write(canvas, x1, middle, value, size, WHITE if i == 0 else _FAINT, right=True)
        thick, under = max(2.0, size * 0.2), top + line * 0.84
        canvas.panel(x0, under, x1, under + thick, _BAR, radius=thick / 2)
        canvas.panel(x0, under, x0 + (x1 - x0) * min(max(score, 0.0), 1.0), under + thick, colour, radius=thick / 2)
    return canvas.image


def below(picture: Image.Image, strips: Sequence[Image.Image]) -> Image.Image:
    """The picture with strips of its width under it; the picture keeps its place, so coordinates on it stay true."""
    sheet = Image.new("RGB", (picture.width, picture.height + sum(strip.height for strip in strips)), INK)
    y = 0
    for part in (picture, *strips):
        sheet.paste(part, (0, y))
        y += part.height
    return sheet


def title(across: int, name: str, note: str, size: int) -> Image.Image:
    """A strip `across` pixels wide with a name and a faint note."""
    canvas = Canvas(Image.new("RGB", (across, round(size * 2.2)), _PANEL))
    write(canvas, round(size * 0.9), canvas.size[1] / 2, name, size, WHITE, bold=True)
    write(canvas, round(size * 1.5) + width(name, size), canvas.size[1] / 2, note, size, _FAINT)
    return canvas.image
