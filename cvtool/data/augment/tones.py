"""Solarize, posterize, invert, equalize, autocontrast: every value through a table, the same at every place (Cubuk 2018, arXiv:1805.09501)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import ImageOps

from cvtool.data.augment.checks import share, within
from cvtool.data.augment.geometry import Pair, image_of
from cvtool.results import Result


def solarized(pixels: np.ndarray, threshold: int) -> np.ndarray:
    """Values from `threshold` on turned to 255 - value."""
    return pixels ^ -(pixels >= threshold).view(np.uint8)  # all bits where it holds


def posterized(pixels: np.ndarray, bits: int) -> np.ndarray:
    """The highest `bits` of each value, the others zero."""
    return pixels & np.uint8(256 - (1 << (8 - bits)))


def equalized(pixels: np.ndarray) -> np.ndarray:
    """Each channel with a histogram as even as a table can make it."""
    return np.asarray(ImageOps.equalize(image_of(pixels)))


def stretched(pixels: np.ndarray) -> np.ndarray:
    """Each channel with its darkest value at 0 and its brightest at 255."""
    return np.asarray(ImageOps.autocontrast(image_of(pixels)))


@dataclass(frozen=True)
class _Sometimes:
    p: float = 0.5

    def __post_init__(self) -> None:
        share("p", self.p)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        return (self.change(pixels), target) if rng.random() < self.p else (pixels, target)

    def change(self, pixels: np.ndarray) -> np.ndarray:
        """Always the same."""
        return pixels


@dataclass(frozen=True)
class Equalize(_Sometimes):
    """An even histogram in each channel, with probability `p`."""

    def change(self, pixels: np.ndarray) -> np.ndarray:
        return equalized(pixels)


@dataclass(frozen=True)
class AutoContrast(_Sometimes):
    """Each channel from 0 to 255, with probability `p`."""

    def change(self, pixels: np.ndarray) -> np.ndarray:
        return stretched(pixels)


@dataclass(frozen=True)
class Invert(_Sometimes):
    """The negative, with probability `p`."""

    def change(self, pixels: np.ndarray) -> np.ndarray:
        return ~pixels


@dataclass(frozen=True)
class Solarize:
    """Values from `threshold` (0 to 256; less is stronger) on inverted, with probability `p`."""

    threshold: int = 128
    p: float = 0.5

    def __post_init__(self) -> None:
        within("threshold", self.threshold, 0, 256)
        share("p", self.p)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        return (solarized(pixels, self.threshold), target) if rng.random() < self.p else (pixels, target)


@dataclass(frozen=True)
class Posterize:
    """The highest `bits` (1 to 8; less is stronger) of each value, with probability `p`."""

    bits: int = 4
    p: float = 0.5

    def __post_init__(self) -> None:
        within("bits", self.bits, 1, 8)
        share("p", self.p)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        return (posterized(pixels, self.bits), target) if rng.random() < self.p else (pixels, target)
