"""A square of the picture around some text, at some scale: what detectors of text are trained on (Zhou 2017, arXiv:1704.03155, section 3.4.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cvtool.data.augment.checks import ordered, share, within
from cvtool.data.augment.geometry import Pair, canvas, resized, window
from cvtool.results import Quads, Result


@dataclass(frozen=True)
class TextCrop:
    """`size` x `size` pixels of the picture made `low` to `high` times as large (evenly in the logarithm), never mirrored.

    The square holds the middle of a region drawn among those that are to be found; with probability `anywhere`, and where there is none, it lies
    anywhere. What the picture does not cover is grey. Text that the square cuts need not be found.
    """

    low: float = 0.5
    high: float = 2.0
    size: int = 320
    anywhere: float = 0.1

    def __post_init__(self) -> None:
        within("low", self.low, 0.05, 20)
        within("high", self.high, 0.05, 20)
        ordered(self.low, self.high, "scale")
        within("size", self.size, 16)
        share("anywhere", self.anywhere)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        height, width = pixels.shape[:2]
        factor = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        x, y, drawn, choice = rng.random(4).tolist()
        side = max(1, round(self.size / factor))  # of the source
        columns, rows = min(width, side), min(height, side)
        left, top = x * (width - columns), y * (height - rows)
        if isinstance(target, Quads) and len(target.quads) and drawn >= self.anywhere:
            wanted = target.quads if target.spared is None or bool(target.spared.all()) else target.quads[~target.spared]
            middle = wanted[int(choice * len(wanted))].mean(0).tolist()
            left, top = middle[0] - x * columns, middle[1] - y * rows
        left, top = (int(min(max(0, at), most)) for at, most in ((left, width - columns), (top, height - rows)))
        out, kept = window(pixels, target, left, top, left + columns, top + rows)
        sides = [min(self.size, max(1, round(cells * factor))) for cells in (rows, columns)]
        out, kept = resized(out, kept, *sides)
        if out.shape[:2] != (self.size, self.size):
            out, kept = canvas(out, kept, self.size, self.size, int(y * (self.size - sides[0] + 1)), int(x * (self.size - sides[1] + 1)))
        return out, kept
