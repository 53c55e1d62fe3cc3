"""Pages of print, to learn finding words on paper from: paragraphs in columns, headings, rules and pictures; every word, line and block is known."""

from __future__ import annotations

import math
from random import Random
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from cvtool.data.synth_text import look
from cvtool.data.synth_text.fonts import EM, Face, Fonts
from cvtool.data.synth_text.geometry import Lie, affine, tilted
from cvtool.data.synth_text.lexicon import Lexicon
from cvtool.data.synth_text.picture import Picture, annotation, corners
from cvtool.data.synth_text.textures import Textures
from cvtool.data.synth_text.typeset import typeset
from cvtool.errors import InputError

WIDTHS, HIGH = (600, 1100), (0.6, 1.45)  # pixels across, and down as a share of it
COMMON = "The quick brown fox jumps over a lazy dog, 1234567890."  # what a page's font must have


class Set(NamedTuple):
    """A word as it stands on the page: box in pixels, and the block and line it belongs to, from 1."""

    text: str
    box: tuple[float, float, float, float]
    block: int
    line: int


class Pages:
    """Draws pages. fonts, lexicon, textures: what it draws with; they decide, with (seed, number), every pixel."""

    def __init__(self, fonts: Fonts, lexicon: Lexicon, textures: Textures) -> None:
        self.fonts, self.lexicon, self.textures = fonts, lexicon, textures

    def draw(self, seed: int, number: int) -> Picture:
        """Page `number` of a seed. Raises InputError where no font has the plain letters."""
        rng = Random(f"page {seed} {number}")
        width = rng.randint(*WIDTHS)
        height = int(width * rng.uniform(*HIGH))
        sheet = _Sheet(np.zeros((height, width), np.uint8))
        self._fill(rng, sheet, min(rng.uniform(15, 30), width / 22))
        ink = Image.fromarray(sheet.ink)
        lie = _lie(rng, width, height)
        middle = width / 2, height / 2
        ink = lie.warped(ink, middle, (width, height), (-middle[0], -middle[1]))
        pixels = look.printed(rng, self.textures, ink, 16.0)
        annotations: list[dict[str, Any]] = []
        lines: list[str] = []
        last, shown = (1, 0), 0
        for word in sheet.words:
            quad = lie.forth(corners(*word.box) - middle) + middle
            if quad.min() < 0 or (quad.max(0) > (width, height)).any():
                continue
            if (word.block, word.line) != last:
                lines += [""] if lines and word.block != last[0] else []
                lines.append(word.text)
                shown = 0
            else:
                lines[-1] += " " + word.text
            last, shown = (word.block, word.line), shown + 1
            annotations.append(annotation(quad, word.text, block=word.block, line=word.line, word=shown))
        return Picture(pixels, annotations, "\n".join(lines), rng.randint(60, 95))

    def _face(self, rng: Random) -> Face:
        for _ in range(20):
            if (chosen := self.fonts.choose(rng, COMMON.replace(" ", ""), document=True)) is not None:
                return chosen[0]
        raise InputError("no font shows plain letters", where=self.fonts.folder)

    def _fill(self, rng: Random, sheet: _Sheet, em: float) -> None:
        """The page: a heading at times, then columns."""
        height, width = sheet.ink.shape
        body, title = self._face(rng), self._face(rng)
        margin = width * rng.uniform(0.04, 0.12)
        top = bottom_of = height * rng.uniform(0.03, 0.09)
        if rng.random() < 0.6:
            big = em * rng.uniform(1.4, 2.8)
            bottom_of = self._paragraph(rng, sheet, title, big, (margin, top, width - margin, height), rng.randint(1, 7), style=rng.choice("lc"))
            top = bottom_of + em * rng.uniform(0.4, 1.2)
        columns = rng.choice((1, 1, 1, 2, 2, 3)) if width > 28 * em else 1
        gutter = em * rng.uniform(1.2, 2.5)
        across = (width - 2 * margin - gutter * (columns - 1)) / columns
        foot = height - rng.uniform(0.04, 0.1) * height
        style, leading = rng.choice("jjl"), rng.uniform(1.12, 1.6)
        indent, between = rng.choice((0.0, 0.0, 1.5 * em)), rng.choice((0.0, 0.6)) * em
        for column in range(columns):
            left, y = margin + column * (across + gutter), top
            if column and rng.random() < 0.2:
                sheet.rule(left - gutter / 2, top, left - gutter / 2, foot, rng.randint(1, 3))
            while y + em * leading < foot:
                box = left, y, left + across, foot
                chance = rng.random()
                if chance < 0.12:
                    y = self._paragraph(rng, sheet, title, em * rng.uniform(1.0, 1.5), box, rng.randint(1, 4), style="l") + 0.3 * em
                elif chance < 0.18:
                    down = em * rng.uniform(3, 9)
                    if y + down < foot:
                        sheet.picture(
                            look.luma((255, 255, 255)) - self.textures.photograph(rng, int(down), int(across)) @ look.LUMA, int(left), int(y)
                        )
                    y += down + em
                elif chance < 0.22:
                    sheet.rule(left, y + 0.3 * em, left + across, y + 0.3 * em, rng.randint(1, 3))
                    y += em
                else:
                    y = self._paragraph(rng, sheet, body, em, box, rng.randint(8, 90), style=style, leading=leading, indent=indent) + between
        if rng.random() < 0.4:
            self._paragraph(rng, sheet, body, 0.9 * em, (margin, foot + 0.3 * em, width - margin, height), 1, style="c")

    def _paragraph(
        self, rng: Random, sheet: _Sheet, face: Face, em: float, box: tuple[float, float, float, float], count: int, *, style: str,
        leading: float = 1.2, indent: float = 0.0,
    ) -> float:  # fmt: skip
        """Words of sentences from the upper edge of a box on, as far as it goes; the row below them. style: left, centred or justified."""
        x0, y, x1, y1 = box
        scale = em / EM
        words: list[str] = []
        while len(words) < count:
            words += self.lexicon.sentence(rng, min(count - len(words), rng.randint(4, 22)))
        shown = [word for word in words if all(face.glyph(c) is not None for c in word)]
        space = max(face.space, 0.2 * EM) * scale
        sheet.block += 1
        line, start = 1, x0 + indent
        while shown and y + em * leading <= y1:
            row: list[tuple[str, Image.Image, tuple[float, float, float, float], float]] = []
            wide = 0.0
            while shown:
                cut = sheet.cut(face, shown[0], scale)
                if row and start + wide + cut[0].width > x1:
                    break
                row.append((shown.pop(0), *cut))
                wide += cut[0].width + space
            spare = x1 - start - (wide - space)
            step = space + (max(0.0, spare) / (len(row) - 1) if style == "j" and shown and len(row) > 1 and spare < 0.3 * (x1 - x0) else 0.0)
            x = start + (max(0.0, spare) / 2 if style == "c" else 0.0)
            for text, image, ink, above in row:
                sheet.put(image, x, y - above)
                a, b, c, d = ink
                pad = 0.03 * em
                if x + c <= sheet.ink.shape[1] and y - above + d <= sheet.ink.shape[0]:
                    box_ = x + a - pad, y - above + b - pad, x + c + pad, y - above + d + pad
                    sheet.words.append(Set(text, box_, sheet.block, line))
                x += image.width + step
            y, line, start = y + em * leading, line + 1, x0
        return y


class _Sheet:
    """The ink of a page while it is being set."""

    def __init__(self, ink: np.ndarray) -> None:
        self.ink, self.block = ink, 0
        self.words: list[Set] = []

    @staticmethod
    def cut(face: Face, text: str, scale: float) -> tuple[Image.Image, tuple[float, float, float, float], float]:
        """A word at its size, its ink's box in that picture, and how far the picture goes above the line's upper edge."""
        line = typeset(face, text)
        height, width = line.pixels.shape
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = Image.fromarray(line.pixels).resize(size, Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BILINEAR)
        x, y = size[0] / width, size[1] / height
        a, b, c, d = line.ink
        return image, (a * x, b * y, c * x, d * y), line.ascent * y

    def put(self, image: Image.Image, x: float, y: float) -> None:
        left, top = round(x), round(y)
        pixels = np.asarray(image)
        height, width = self.ink.shape
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + image.width, width), min(top + image.height, height)
        if x0 < x1 and y0 < y1:
            part = self.ink[y0:y1, x0:x1]
            np.maximum(part, pixels[y0 - top : y1 - top, x0 - left : x1 - left], out=part)

    def rule(self, x0: float, y0: float, x1: float, y1: float, width: int) -> None:
        image = Image.fromarray(self.ink)
        ImageDraw.Draw(image).line((x0, y0, x1, y1), fill=255, width=width)
        self.ink[:] = np.asarray(image)

    def picture(self, darkness: np.ndarray, left: int, top: int) -> None:
        """A photograph in gray, as ink. darkness: H W float in 0..255."""
        self.put(Image.fromarray(darkness.clip(0, 255).astype(np.uint8)), left, top)


def _lie(rng: Random, width: int, height: int) -> Lie:
    """A sheet that lies a little askew, and is sometimes photographed from the side."""
    matrix = affine(1.0, angle=math.radians(rng.gauss(0, 0.6) if rng.random() < 0.8 else rng.gauss(0, 4)), slant=rng.gauss(0, 0.005))
    if rng.random() < 0.15:
        matrix = tilted(matrix, rng.gauss(0, 0.05) / width, rng.gauss(0, 0.05) / height)
    return Lie(matrix)
