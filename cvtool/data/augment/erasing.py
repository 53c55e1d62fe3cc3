"""Random erasing and cutout: a rectangle painted over, so that no single part can carry the decision.

The truth stays as it is: the network is to see through (Zhong 2017, arXiv:1708.04896, section 4; DeVries 2017, arXiv:1708.04552).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cvtool.data.augment.checks import choice, ordered, share, within
from cvtool.data.augment.geometry import FILL, Pair
from cvtool.results import Result

FILLS = ("black", "grey", "noise")
DEVIATION = 57.0  # of the noise, about FILL: what a standard normal is after ImageNet's mean and deviation


def painted(pixels: np.ndarray, box: tuple[int, int, int, int], fill: str, rng: np.random.Generator) -> np.ndarray:
    """A copy whose rectangle (left, top, right, bottom) is black, grey or Gaussian noise about grey."""
    left, top, right, bottom = box
    out = pixels.copy()
    if fill == "noise":
        values = FILL + DEVIATION * rng.standard_normal((bottom - top, right - left, 3), dtype=np.float32)
        out[top:bottom, left:right] = np.rint(values).clip(0, 255)
    else:
        out[top:bottom, left:right] = FILL if fill == "grey" else 0
    return out


@dataclass(frozen=True)
class Erasing:
    """With probability `p` a rectangle of `low` to `high` of the picture's area, its sides 0.3 to 3.3 to one, anywhere inside.

    fill: black, grey or noise. The rectangle's sides are whole pixels and its area lies in the range exactly; a picture too small for any such
    rectangle stays as it is.
    """

    p: float = 0.5
    fill: str = "grey"
    low: float = 0.02
    high: float = 0.33

    def __post_init__(self) -> None:
        share("p", self.p)
        choice("fill", self.fill, FILLS)
        share("low", self.low)
        share("high", self.high)
        ordered(self.low, self.high, "area")

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        if rng.random() >= self.p:
            return pixels, target
        height, width = pixels.shape[:2]
        for _ in range(20):
            area = rng.uniform(self.low, self.high) * height * width
            ratio = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
            rows, cols = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if rows <= height and cols <= width and rows * cols > 0 and self.low <= rows * cols / (height * width) <= self.high:
                top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - cols + 1))
                return painted(pixels, (left, top, left + cols, top + rows), self.fill, rng), target
        return pixels, target


@dataclass(frozen=True)
class Cutout:
    """A square of `side` pixels with its centre anywhere in the picture, so that its part outside is lost."""

    side: int = 16
    fill: str = "grey"

    def __post_init__(self) -> None:
        within("side", self.side, 1)
        choice("fill", self.fill, FILLS)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        height, width = pixels.shape[:2]
        top, left = int(rng.integers(height)) - self.side // 2, int(rng.integers(width)) - self.side // 2
        box = max(0, left), max(0, top), min(width, left + self.side), min(height, top + self.side)
        return painted(pixels, box, self.fill, rng), target
