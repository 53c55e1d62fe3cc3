"""Pictures of single words, to learn reading from: signs, labels and print, each picture a function of (seed, number) alone.

The steps are those of Jaderberg 2014 (arXiv:1406.2227, section 3.1; 2016, arXiv:1412.1842): a font draws the text, a border or shadow and colours are
added, the text is distorted projectively, blended with a natural picture, and noise is added. A third of the pictures look like print on paper.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from cvtool.data.synth_text import look
from cvtool.data.synth_text.fonts import EM, Face, Fonts
from cvtool.data.synth_text.geometry import Lie, affine, edge, laid, tilted
from cvtool.data.synth_text.lexicon import Lexicon
from cvtool.data.synth_text.textures import Textures
from cvtool.data.synth_text.typeset import Line, typeset
from cvtool.errors import InputError

DOCUMENTS = 1 / 3  # share of the pictures that look like print
WIDEST, HIGHEST = 640, 160  # pixels
FONTS = Path("/usr/share/fonts")


@dataclass(frozen=True)
class Word:
    """pixels: H W 3 uint8. quality: of the JPEG that the picture is to be."""

    pixels: np.ndarray
    text: str
    quality: int
    font: str

    def record(self) -> dict[str, Any]:
        """What is known of the picture: the keys of a record."""
        return {"text": self.text}

    def jpeg(self) -> bytes:
        image = Image.fromarray(self.pixels)
        if (self.pixels[..., :1] == self.pixels[..., 1:]).all():
            image = image.convert("L")
        file = io.BytesIO()
        image.save(file, format="JPEG", quality=self.quality)
        return file.getvalue()


class Words:
    """Draws word pictures. fonts, lexicon, textures: what it draws with; they decide, with (seed, number), every pixel."""

    def __init__(self, fonts: Fonts, lexicon: Lexicon, textures: Textures) -> None:
        self.fonts, self.lexicon, self.textures = fonts, lexicon, textures

    def draw(self, seed: int, number: int) -> Word:
        """Picture `number` of a seed. Raises InputError where no font can show any of twenty texts."""
        rng = Random(f"{seed} {number}")
        document = rng.random() < DOCUMENTS
        for _ in range(20):
            if (chosen := self.fonts.choose(rng, self.lexicon.text(rng), document=document)) is None:
                continue
            face, text = chosen
            if self.lexicon.allows(text):
                return self._document(rng, face, text) if document else self._scene(rng, face, text)
        raise InputError("no font shows the characters of these texts", where=self.fonts.folder)

    # ---- signs and labels ------------------------------------------------------------------------------------------

    def _scene(self, rng: Random, face: Face, text: str) -> Word:
        spacing = EM * (rng.uniform(-0.03, 0.3) if rng.random() < 0.22 else 0.0)
        line = typeset(face, text, spacing=spacing, kerning=not spacing)
        flat, box = self._flat(rng, face, line, neighbours=0.22, underline=0.03)
        if rng.random() < 0.08:
            flat = flat.filter(ImageFilter.MaxFilter(3))
        size = min(64.0, max(12.0, rng.lognormvariate(3.42, 0.42)))  # height of the word's box, pixels
        room = self._room(rng, box, self._scene_lie(rng, box, size, len(text)), loose=0.18)
        width, height = room.size
        pixels, mean = look.ground(rng, self.textures, height, width)
        if rng.random() < 0.14:
            look.panel(rng, pixels, room.clear)
        ink = look.against(rng, mean, float(pixels[..., 1].std()))
        layers = [replace(layer, mask=room.laid(layer.mask)) for layer in look.dressed(rng, flat, ink, box[3] - box[1])]
        pixels = look.blended(rng, self.textures, pixels, layers, size)
        shown = look.photographed(rng, self.textures, pixels, size)
        return Word(shown, text, rng.randint(25, 55) if rng.random() < 0.2 else rng.randint(60, 96), str(face.path))

    @staticmethod
    def _scene_lie(rng: Random, box: tuple[float, ...], size: float, letters: int) -> Lie:
        width, height = box[2] - box[0], box[3] - box[1]
        stretch = min(1.6, max(0.55, math.exp(rng.gauss(-0.03, 0.2))))
        chance = rng.random()
        angle = rng.gauss(0, 1.5) if chance < 0.55 else rng.gauss(0, 6) if chance < 0.9 else rng.uniform(-25, 25)
        slant = rng.gauss(0, 0.14) if rng.random() < 0.3 else 0.0
        matrix = affine(size / height, stretch=stretch, slant=slant, angle=math.radians(angle))
        if rng.random() < 0.4:
            reach = math.hypot(width * stretch, height) * size / height / 2
            matrix = tilted(matrix, rng.gauss(0, 0.12) / reach, rng.gauss(0, 0.06) / reach)
        bend = 0.0
        if letters > 3 and rng.random() < 0.13:
            most = min(2.2, 0.8 * width / height)
            bend = rng.choice((1, 1, -1)) * rng.uniform(0.15, 1) * most
        return Lie(matrix, bend, width)

    # ---- print -----------------------------------------------------------------------------------------------------

    def _document(self, rng: Random, face: Face, text: str) -> Word:
        spacing = EM * (rng.uniform(-0.02, 0.1) if rng.random() < 0.12 else 0.0)
        line = typeset(face, text, spacing=spacing, kerning=not spacing)
        flat, box = self._flat(rng, face, line, neighbours=0.12, underline=0.03)
        size = rng.uniform(13, 48) if rng.random() < 0.8 else rng.uniform(9, 14)
        angle = math.radians(rng.gauss(0, 0.7))
        stretch = math.exp(rng.gauss(0, 0.08))
        matrix = affine(size / (box[3] - box[1]), stretch=stretch, slant=rng.gauss(0, 0.02), angle=angle)
        mask = self._room(rng, box, Lie(matrix), loose=0.12).laid(flat)
        return Word(look.printed(rng, self.textures, mask, size), text, rng.randint(50, 97), str(face.path))

    # ---- both ------------------------------------------------------------------------------------------------------

    def _flat(self, rng: Random, face: Face, line: Line, *, neighbours: float, underline: float) -> tuple[Image.Image, tuple[float, ...]]:
        """The flat ink with room around it, and the word's box in it: its ink's, or in part the line's own height."""
        x0, y0, x1, y1 = line.ink
        pad = int(0.6 * (y1 - y0)) + 8
        height, width = line.pixels.shape
        flat = np.zeros((height + 2 * pad, width + 2 * pad), np.uint8)
        flat[pad : pad + height, pad : pad + width] = line.pixels
        if rng.random() < 0.3 or y1 - y0 < 0.25 * line.height:  # a full stop alone is as high as its line
            y0, y1 = min(y0, int(line.ascent + 0.18 * line.height)), max(y1, int(line.ascent + 0.95 * line.height))
        box = x0 + pad, y0 + pad, x1 + pad, y1 + pad
        if rng.random() < underline:
            thick = max(2, int(EM * rng.uniform(0.04, 0.09)))
            at = int(pad + line.ascent + face.ascent + EM * rng.uniform(0.06, 0.16))
            flat[at : at + thick, pad + x0 : pad + x1] = 255
        if rng.random() < neighbours:
            self._surround(rng, face, flat, box)
        return Image.fromarray(flat), box

    def _surround(self, rng: Random, face: Face, flat: np.ndarray, box: tuple[int, int, int, int]) -> None:
        """Parts of other words in the room around the box, as crops of running text have them."""
        x0, y0, x1, y1 = box
        for side in rng.choice(("t", "b", "tb", "l", "r", "lr", "br", "tl")):
            text = self.lexicon.cased(rng)
            if any(face.glyph(c) is None for c in text):
                continue
            other = typeset(face, text)
            a, b, c, d = other.ink
            ink = other.pixels[b:d, a:c]
            gap = int(EM * rng.uniform(0.06, 0.3))
            if side in "tb":
                left = rng.randint(x0 - ink.shape[1] // 2, max(x0, x1 - ink.shape[1] // 2))
                _put(flat, ink, left, y0 - gap - ink.shape[0] if side == "t" else y1 + gap)
            else:
                gap += int(0.12 * EM)
                _put(flat, ink, x0 - gap - ink.shape[1] if side == "l" else x1 + gap, y0)

    @staticmethod
    def _room(rng: Random, box: tuple[float, ...], lie: Lie, *, loose: float) -> Room:
        """The part of the picture around a word that is kept, with tight or loose margins."""
        x0, y0, x1, y1 = box
        middle = (x0 + x1) / 2, (y0 + y1) / 2
        places = lie.forth(edge(x0, y0, x1, y1) - middle)
        (left, top), (right, bottom) = places.min(0).tolist(), places.max(0).tolist()
        unit = min(bottom - top, 1.5 * (y1 - y0) * lie.scale)
        if rng.random() < 0.35:
            margins = [unit * rng.uniform(-0.03, 0.08) for _ in range(4)]
        else:
            margins = [unit * rng.uniform(0.0, loose) * (1.5 if i % 2 == 0 else 1.0) for i in range(4)]  # left, top, right, bottom
        start = math.floor(left - margins[0]), math.floor(top - margins[1])
        width = max(6, math.ceil(right + margins[2]) - start[0])
        height = max(8, math.ceil(bottom + margins[3]) - start[1])
        squeeze = min(1.0, WIDEST / width, HIGHEST / height)
        if squeeze < 1:
            start = math.floor(start[0] * squeeze), math.floor(start[1] * squeeze)
            width, height = max(6, int(width * squeeze)), max(8, int(height * squeeze))
            lie = Lie(np.diag([squeeze, squeeze, 1.0]) @ lie.matrix, lie.bend, lie.width)
            left, top, right, bottom = (v * squeeze for v in (left, top, right, bottom))
        return Room(lie, middle, start, (width, height), (left - start[0], top - start[1], right - start[0], bottom - start[1]))


@dataclass(frozen=True)
class Room:
    """Where a word lies in its picture. middle: of its box, flat. start: the first pixel kept. size: width, height. clear: its bounds there."""

    lie: Lie
    middle: tuple[float, float]
    start: tuple[int, int]
    size: tuple[int, int]
    clear: tuple[float, float, float, float]

    def laid(self, flat: Image.Image) -> Image.Image:
        """A flat mask as it lies in the picture."""
        return laid(flat, self.lie, self.middle, self.size, self.start)


def _put(canvas: np.ndarray, ink: np.ndarray, left: int, top: int) -> None:
    """Ink into a canvas at a place, which may lie partly outside."""
    height, width = canvas.shape
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + ink.shape[1], width), min(top + ink.shape[0], height)
    if x0 < x1 and y0 < y1:
        part = canvas[y0:y1, x0:x1]
        np.maximum(part, ink[y0 - top : y1 - top, x0 - left : x1 - left], out=part)
