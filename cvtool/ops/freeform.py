"""Free-form masks: thick strokes that turn at random, as a hand would wipe (Yu 2019, arXiv:1806.03589, algorithm 1).

A stroke is a line of several vertices, each at a random length and a random turn from the one before, every second one turned back, drawn with a
random width and with a circle at each joint, so that it has no gaps there. At last the mask is turned over across or down, or not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from cvtool.errors import UsageError

TRIES = 200  # strokes after which a mask has the share it has


@dataclass(frozen=True)
class Freeform:
    """vertices: the most of a stroke. stroke: its widest, as a share of the shorter side; a third of it is the narrowest. length: the longest way
    from vertex to vertex, likewise. angle: how far it turns at a vertex, in degrees; spread: by how much that varies. strokes: the most of a mask.
    share: the least part of the picture that is hole, as strokes are added until it is reached; None: as `strokes` has it.

    Raises UsageError.
    """

    vertices: int = 12
    stroke: float = 0.15
    length: float = 0.4
    angle: float = 72.0
    spread: float = 24.0
    strokes: int = 4
    share: float | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("vertices", 1, 1000),
            ("stroke", 0, 1),
            ("length", 0, 4),
            ("angle", 0, 360),
            ("spread", 0, 360),
            ("strokes", 1, 1000),
        ):
            if not low <= getattr(self, name) <= high or (low == 0 and name in ("stroke", "length") and getattr(self, name) == 0):
                raise UsageError(f"{name}={getattr(self, name):g} is not between {low} and {high}")
            if name in ("vertices", "strokes") and getattr(self, name) % 1:
                raise UsageError(f"{name}={getattr(self, name):g} is no whole number")
        if self.share is not None and not 0 < self.share <= 0.9:
            raise UsageError(f"share={self.share:g} is not above 0 and at most 0.9")

    def draw(self, width: int, height: int, chance: np.random.Generator) -> np.ndarray:
        """H W bool, True = hole."""
        image = Image.new("1", (width, height))
        pen = ImageDraw.Draw(image)
        wanted = None if self.share is None else self.share * width * height
        count = TRIES if wanted is not None else int(chance.integers(1, self.strokes + 1))
        for _ in range(count):
            self._stroke(pen, width, height, chance)
            if wanted is not None and np.count_nonzero(np.asarray(image)) >= wanted:
                break
        mask = np.array(image)
        if chance.random() < 0.5:
            mask = mask[::-1]
        if chance.random() < 0.5:
            mask = mask[:, ::-1]
        return np.ascontiguousarray(mask)

    def _stroke(self, pen: ImageDraw.ImageDraw, width: int, height: int, chance: np.random.Generator) -> None:
        side = min(width, height)
        turn = math.radians(self.angle + chance.uniform(-self.spread, self.spread))
        thick = max(1, round(side * self.stroke * chance.uniform(1 / 3, 1)))
        x, y = chance.uniform(0, width), chance.uniform(0, height)
        heading = chance.uniform(0, 2 * math.pi)
        points = [(x, y)]
        for i in range(int(chance.integers(1, self.vertices + 1))):
            step = math.radians(chance.uniform(-self.spread, self.spread)) + (turn if i % 2 else -turn) * (i > 0)
            heading += step
            far = side * self.length * chance.uniform(0.2, 1)
            x, y = min(max(x + far * math.cos(heading), 0), width), min(max(y + far * math.sin(heading), 0), height)
            points.append((x, y))
        pen.line(points, fill=1, width=thick)
        for x, y in points:
            pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=1)
