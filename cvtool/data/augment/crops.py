"""Crop: a part of the picture, or the picture as a part of something larger; the truth is cut along."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cvtool.data.augment.checks import choice, ordered, share, within
from cvtool.data.augment.geometry import FILL, Pair, canvas, mirror, resized, shifted, window
from cvtool.results import Boxes, Quads, Result


def _lost(kept: Result, target: Result) -> bool:
    """Whether the last object went."""
    return isinstance(kept, Boxes | Quads) and isinstance(target, Boxes | Quads) and len(target) > 0 and not len(kept)


@dataclass(frozen=True)
class Crop:
    """With probability `p` a window of `least` to 1 of each side, anywhere; skipped where no object would be left."""

    least: float = 0.6
    p: float = 0.6

    def __post_init__(self) -> None:
        share("least", self.least)
        share("p", self.p)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        scale, x, y = rng.uniform(self.least, 1), rng.random(), rng.random()
        if rng.random() >= self.p:
            return pixels, target
        height, width = pixels.shape[:2]
        rows, cols = max(1, int(height * scale)), max(1, int(width * scale))
        top, left = int(y * (height - rows + 1)), int(x * (width - cols + 1))
        cut, kept = window(pixels, target, left, top, left + cols, top + rows)
        return (pixels, target) if _lost(kept, target) else (cut, kept)


@dataclass(frozen=True)
class Scale:
    """With probability `p` the picture stands anywhere on a grey canvas of up to `most` times its sides, so that its objects come out smaller."""

    most: float = 1.6
    p: float = 0.5

    def __post_init__(self) -> None:
        within("most", self.most, 1, 16)
        share("p", self.p)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        factor, x, y = rng.uniform(1, self.most), rng.random(), rng.random()
        if rng.random() >= self.p:
            return pixels, target
        height, width = pixels.shape[:2]
        rows, cols = int(height * factor), int(width * factor)
        return canvas(pixels, target, rows, cols, int(y * (rows - height + 1)), int(x * (cols - width + 1)))


@dataclass(frozen=True)
class Shift:
    """The picture padded by `pixels` on every side and a part of its own size cut out anywhere: the CIFAR recipe (He 2016, section 4.2).

    mode: the padding is black ("zero"), "grey", or the picture mirrored at its edge ("reflect"). No truth stands in the padding: maps are
    IGNORE there, and boxes whose centre went out are left out.
    """

    pixels: int = 4
    mode: str = "zero"

    def __post_init__(self) -> None:
        within("pixels", self.pixels, 1)
        choice("mode", self.mode, ("zero", "reflect", "grey"))

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        height, width = pixels.shape[:2]
        down, right = (rng.integers(0, 2 * self.pixels + 1, 2) - self.pixels).tolist()
        out, kept = shifted(pixels, target, down, right, FILL if self.mode == "grey" else 0)
        if self.mode == "reflect":
            rows, cols = _reflected(height, down), _reflected(width, right)
            out = pixels.take(rows, 0).take(cols, 1)
        return out, kept


def _reflected(side: int, by: int) -> np.ndarray:
    """Which row (column) of the picture stands at each place after a shift, the outside mirrored at the edge without repeating it."""
    at = (np.arange(side) - by) % max(1, 2 * (side - 1))
    return np.minimum(at, 2 * (side - 1) - at)


@dataclass(frozen=True)
class ResizedCrop:
    """Inception's crop: a window of `low` to `high` of the area whose shape differs by up to 3/4 to 4/3, brought to the output's size (Szegedy 2015).

    The output is the picture's own size; where the model itself brings every picture to one size, of `shape` (width to height), the window goes there
    as it is, so that it is resized once. Skipped where no object would be left.
    """

    low: float = 0.08
    high: float = 1.0
    shape: float = 0.0

    def __post_init__(self) -> None:
        share("low", self.low)
        share("high", self.high)
        ordered(self.low, self.high, "area")

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        height, width = pixels.shape[:2]
        shape = self.shape or width / height
        rows, cols = height, width
        for _ in range(10):  # as the paper's code and torchvision do; after that the whole picture
            area = rng.uniform(self.low, self.high) * height * width
            ratio = shape * math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
            wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < wide <= width and 0 < high <= height:
                rows, cols = high, wide
                break
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - cols + 1))
        cut, kept = window(pixels, target, left, top, left + cols, top + rows)
        if _lost(kept, target):
            cut, kept = pixels, target
        return (cut, kept) if self.shape else resized(cut, kept, height, width)


@dataclass(frozen=True)
class ScaleCropFlip:
    """For segmentation: the picture `low` to `high` times as large, a part of `size` x `size` of it (0: of the picture's own size), mirrored in half
    of the cases. What the scaled picture does not cover is grey and has no label (Chen 2017, arXiv:1706.05587, section 4)."""

    low: float = 0.5
    high: float = 2.0
    size: int = 0
    swap: Sequence[int] | None = None

    def __post_init__(self) -> None:
        within("low", self.low, 0.05, 20)
        within("high", self.high, 0.05, 20)
        ordered(self.low, self.high, "scale")
        within("size", self.size, 0)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        height, width = pixels.shape[:2]
        high, wide = (self.size, self.size) if self.size else (height, width)
        factor, x, y = rng.uniform(self.low, self.high), rng.random(), rng.random()
        flipped = rng.random() < 0.5
        rows, cols = min(height, max(1, round(high / factor))), min(width, max(1, round(wide / factor)))  # of the source
        top, left = int(y * (height - rows + 1)), int(x * (width - cols + 1))
        cut, kept = window(pixels, target, left, top, left + cols, top + rows)
        if _lost(kept, target):
            return pixels, target
        out, kept = resized(cut, kept, min(high, max(1, round(rows * factor))), min(wide, max(1, round(cols * factor))))
        if out.shape[:2] != (high, wide):
            out, kept = canvas(out, kept, high, wide, int(y * (high - out.shape[0] + 1)), int(x * (wide - out.shape[1] + 1)))
        return mirror(out, kept, self.swap) if flipped else (out, kept)
