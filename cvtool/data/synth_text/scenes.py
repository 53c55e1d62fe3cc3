"""Pictures of places with words in them, to learn finding text from: signs and lettering in photographs, every word's four corners known.

After Gupta 2016 (arXiv:1604.06646), without depth: blocks of lines share a font and colours, lie turned and tilted, on a sign or on what is there.
"""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cvtool.data.synth_text import look
from cvtool.data.synth_text.fonts import EM, Fonts
from cvtool.data.synth_text.geometry import Lie, affine, laid, project, tilted
from cvtool.data.synth_text.lexicon import Lexicon
from cvtool.data.synth_text.picture import Picture, annotation, corners
from cvtool.data.synth_text.textures import Textures
from cvtool.data.synth_text.typeset import typeset

SIZES = ((640, 480), (640, 480), (800, 600), (480, 640), (640, 640), (960, 540), (1280, 720))  # width, height
BLOCKS = (1, 2, 3, 4, 4, 5, 6, 8, 11)
APART = 5  # pixels between two blocks at least


class Block:
    """Lines of one font, flat: ink (an L image) and the words with their boxes in it."""

    def __init__(self, ink: Image.Image, words: list[tuple[str, tuple[float, float, float, float]]], high: float) -> None:
        self.ink, self.words, self.high = ink, words, high  # high: pixels of a word's box, as drawn


class Scenes:
    """Draws scenes. fonts, lexicon, textures: what it draws with; they decide, with (seed, number), every pixel."""

    def __init__(self, fonts: Fonts, lexicon: Lexicon, textures: Textures) -> None:
        self.fonts, self.lexicon, self.textures = fonts, lexicon, textures

    def draw(self, seed: int, number: int) -> Picture:
        """Picture `number` of a seed."""
        rng = Random(f"scene {seed} {number}")
        width, height = rng.choice(SIZES)
        pixels = self._place(rng, height, width)
        taken: list[tuple[float, float, float, float]] = []
        annotations: list[dict[str, Any]] = []
        for _ in range(rng.choice(BLOCKS)):
            if (block := self._block(rng)) is not None:
                annotations += self._put(rng, pixels, block, taken)
        shown = look.photographed(rng, self.textures, pixels, 13.0)
        return Picture(shown, annotations, None, rng.randint(55, 95))

    def _place(self, rng: Random, height: int, width: int) -> np.ndarray:
        """H W 3 float32: a photograph or a wall, with things in it that are no text."""
        if rng.random() < 0.75:
            pixels = self.textures.photograph(rng, height, width)
            if rng.random() < 0.6:
                pixels = (pixels - 128) * rng.uniform(0.4, 1.0) + rng.uniform(70, 185)
        else:
            pixels, _ = look.ground(rng, self.textures, height, width)
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        pen = ImageDraw.Draw(image, "RGBA")
        for _ in range(rng.choice((0, 1, 2, 4, 8))):
            _thing(rng, pen, width, height)
        if rng.random() < 0.3:
            image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2.5)))
        return np.array(image, np.float32)

    def _block(self, rng: Random) -> Block | None:
        lines = [[self._word(rng) for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4)))] for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5)))]
        if (chosen := self.fonts.choose(rng, "".join(map("".join, lines)))) is None:
            return None
        face, _ = chosen
        if face.capitals:
            lines = [[word.upper() for word in line] for line in lines]
            if not all(self.lexicon.allows(word) and all(face.glyph(c) for c in word) for line in lines for word in line):
                return None
        spacing = EM * rng.uniform(0, 0.25) if rng.random() < 0.15 else 0.0
        set_ = [typeset(face, " ".join(line), spacing=spacing) for line in lines]
        gap, side = EM * rng.uniform(0.0, 0.5), rng.choice((0.0, 0.5, 0.5, 1.0))
        widest = max(line.pixels.shape[1] for line in set_)
        canvas = np.zeros((sum(line.pixels.shape[0] + int(gap) for line in set_), widest), np.uint8)
        words, top = [], 0
        for line, texts in zip(set_, lines, strict=True):
            height, width = line.pixels.shape
            left = int((widest - width) * side)
            canvas[top : top + height, left : left + width] = line.pixels
            first = 0
            for text in texts:
                boxes = line.boxes[first : first + len(text)] + np.array([left, top, left, top])
                words.append((text, (boxes[:, 0].min(), boxes[:, 1].min(), boxes[:, 2].max(), boxes[:, 3].max())))
                first += len(text) + 1
            top += height + int(gap)
        high = float(np.median([box[3] - box[1] for _, box in words]))
        return Block(Image.fromarray(canvas), words, high)

    def _word(self, rng: Random) -> str:
        return self.lexicon.cased(rng) if rng.random() < 0.75 else self.lexicon.text(rng)

    def _put(self, rng: Random, pixels: np.ndarray, block: Block, taken: list[tuple[float, float, float, float]]) -> list[dict[str, Any]]:
        """Paint a block where there is room, in place; its words. [] where there was none."""
        height, width = pixels.shape[:2]
        edges = np.array([box for _, box in block.words])
        x0, y0, x1, y1 = edges[:, 0].min(), edges[:, 1].min(), edges[:, 2].max(), edges[:, 3].max()
        middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
        size = min(110.0, max(8.0, rng.lognormvariate(3.15, 0.55)))
        for _ in range(6):
            lie = _lie(rng, size / block.high, x1 - x0)
            border = block.high * rng.uniform(0.1, 0.5)
            outer = lie.forth(corners(x0 - border, y0 - border, x1 + border, y1 + border) - middle)
            spread = np.ptp(outer, axis=0)
            if spread[0] < width - 4 and spread[1] < height - 4:
                shift = np.array([rng.uniform(0, width - spread[0]), rng.uniform(0, height - spread[1])]) - outer.min(0)
                bounds = (*(outer.min(0) + shift).tolist(), *(outer.max(0) + shift).tolist())
                if all(_clear(bounds, other) for other in taken):
                    break
            size = max(8.0, size * 0.8)
        else:
            return []
        taken.append(bounds)
        lie = Lie(np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1.0]]) @ lie.matrix)
        left, top = max(0, int(bounds[0]) - 2), max(0, int(bounds[1]) - 2)
        right, bottom = min(width, int(bounds[2]) + 3), min(height, int(bounds[3]) + 3)
        part = pixels[top:bottom, left:right]
        if rng.random() < 0.45:
            sign = look.colour(rng)
            _sign(rng, part, outer + shift - (left, top), sign, size)
            ink = look.against(rng, sign)
        else:
            r, g, b = part.reshape(-1, 3).mean(0).tolist()
            ink = look.against(rng, (r, g, b), float(part[..., 1].std()))
        origin, window = (float(middle[0]), float(middle[1])), (right - left, bottom - top)
        layers = [replace(one, mask=laid(one.mask, lie, origin, window, (left, top))) for one in look.dressed(rng, block.ink, ink, block.high)]
        part[:] = look.blended(rng, self.textures, part, layers, size)
        found = []
        for text, (a, b, c, d) in block.words:
            pad = 0.02 * block.high
            quad = project(lie.matrix, corners(a - pad, b - pad, c + pad, d + pad) - middle)
            found.append(annotation(quad, text))
        return found


def _lie(rng: Random, scale: float, width: float) -> Lie:
    chance = rng.random()
    angle = (
        rng.gauss(0, 2) if chance < 0.5 else rng.gauss(0, 9) if chance < 0.85 else rng.uniform(-50, 50) if chance < 0.96 else rng.choice((-90, 90))
    )
    stretch = min(1.5, max(0.6, math.exp(rng.gauss(-0.03, 0.16))))
    matrix = affine(scale, stretch=stretch, slant=rng.gauss(0, 0.12) if rng.random() < 0.25 else 0.0, angle=math.radians(angle))
    if rng.random() < 0.5:
        reach = scale * width * stretch / 2
        turn = math.radians(angle)
        along, across = rng.gauss(0, 0.12) / reach, rng.gauss(0, 0.05) / reach
        matrix = tilted(matrix, along * math.cos(turn) - across * math.sin(turn), along * math.sin(turn) + across * math.cos(turn))
    return Lie(matrix)


def _clear(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[2] + APART < other[0] or other[2] + APART < one[0] or one[3] + APART < other[1] or other[3] + APART < one[1]


def _sign(rng: Random, part: np.ndarray, quad: np.ndarray, tone: look.Colour, size: float) -> None:
    """A sign's board, in place, with a rim at times."""
    board = Image.new("L", (part.shape[1], part.shape[0]), 0)
    pen = ImageDraw.Draw(board)
    ring = [tuple(place) for place in quad.tolist()]
    pen.polygon(ring, fill=255)
    share = np.asarray(board, np.float32)[..., None] / 255 * rng.choice((0.6, 0.85, 1.0, 1.0))
    part += share * (np.array(tone, np.float32) - part)
    if rng.random() < 0.3:
        rim = Image.new("L", board.size, 0)
        ImageDraw.Draw(rim).line([*ring, ring[0]], fill=255, width=max(1, round(size * rng.uniform(0.03, 0.12))))
        part += np.asarray(rim, np.float32)[..., None] / 255 * (np.array(look.against(rng, tone), np.float32) - part)


def _thing(rng: Random, pen: ImageDraw.ImageDraw, width: int, height: int) -> None:
    """A box, a disc, a line, a fence or a row of windows: what has edges and is no text."""
    r, g, b = (int(v) for v in look.colour(rng))
    fill = (r, g, b, rng.choice((120, 200, 255)))
    x, y = rng.uniform(-0.1, 1) * width, rng.uniform(-0.1, 1) * height
    w, h = rng.uniform(0.02, 0.5) * width, rng.uniform(0.02, 0.5) * height
    kind = rng.choice("bbdlffww")
    if kind == "b":
        pen.rectangle((x, y, x + w, y + h), fill=fill, outline=None if rng.random() < 0.6 else (0, 0, 0, 255))
    elif kind == "d":
        pen.ellipse((x, y, x + w, y + rng.choice((w, h))), fill=fill)
    elif kind == "l":
        pen.line((x, y, x + rng.uniform(-1, 1) * width, y + rng.uniform(-1, 1) * height), fill=fill, width=rng.randint(1, 9))
    elif kind == "f":
        step, thick = rng.uniform(4, 30), rng.randint(1, 6)
        upright = rng.random() < 0.6
        for i in range(rng.randint(3, 40)):
            at = (x + i * step, y, x + i * step, y + h) if upright else (x, y + i * step, x + w, y + i * step)
            pen.line(at, fill=fill, width=thick)
    else:
        side, gap = rng.uniform(5, 40), rng.uniform(3, 25)
        tall = side * rng.uniform(0.6, 2)
        for i in range(rng.randint(2, 9)):
            for j in range(rng.randint(1, 5)):
                a, b_ = x + i * (side + gap), y + j * (tall + gap)
                pen.rectangle((a, b_, a + side, b_ + tall), fill=fill)
