"""Colour jitter: brightness, contrast, saturation and tint as one 3 x 4 matrix on uint8 pixels (Krizhevsky 2012, Howard 2013)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cvtool.data.augment.checks import share
from cvtool.data.augment.geometry import Pair, image_of
from cvtool.results import Result

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601


def recolour(pixels: np.ndarray, brightness: float, contrast: float, saturation: float, tint: Sequence[float] | np.ndarray = (1, 1, 1)) -> np.ndarray:
    """H W 3 uint8: each factor 1 changes nothing. Contrast turns about the picture's mean, saturation about each pixel's luma (ITU-R 601)."""
    mean = pixels[::8, ::8].reshape(-1, 3).mean(0) @ LUMA
    mix = saturation * np.eye(3) + (1 - saturation) * LUMA  # each row: what goes into one channel
    matrix = np.asarray(tint)[:, None] * mix * brightness * contrast
    offset = mean * brightness * (1 - contrast)
    rows = np.concatenate([matrix, np.full((3, 1), offset)], 1)
    return np.asarray(image_of(pixels).convert("RGB", tuple(rows.ravel().tolist())))


@dataclass(frozen=True)
class Color:
    """Brightness, contrast and saturation within `strength` of 1 and each channel within a fifth of it, with probability `p`."""

    strength: float = 0.3
    p: float = 0.8

    def __post_init__(self) -> None:
        share("strength", self.strength)
        share("p", self.p)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        brightness, contrast, saturation = rng.uniform(1 - self.strength, 1 + self.strength, 3)
        tint = rng.uniform(1 - self.strength / 5, 1 + self.strength / 5, 3)
        return (recolour(pixels, brightness, contrast, saturation, tint), target) if rng.random() < self.p else (pixels, target)


@dataclass(frozen=True)
class Brightness:
    """All values times a factor within `strength` of 1."""

    strength: float = 0.3

    def __post_init__(self) -> None:
        share("strength", self.strength)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        return recolour(pixels, rng.uniform(1 - self.strength, 1 + self.strength), 1, 1), target


@dataclass(frozen=True)
class Contrast:
    """Distances to the picture's mean luma times a factor within `strength` of 1."""

    strength: float = 0.3

    def __post_init__(self) -> None:
        share("strength", self.strength)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        return recolour(pixels, 1, rng.uniform(1 - self.strength, 1 + self.strength), 1), target


@dataclass(frozen=True)
class Saturation:
    """Distances to each pixel's own luma times a factor within `strength` of 1."""

    strength: float = 0.3

    def __post_init__(self) -> None:
        share("strength", self.strength)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        return recolour(pixels, 1, 1, rng.uniform(1 - self.strength, 1 + self.strength)), target


@dataclass(frozen=True)
class Grayscale:
    """Every channel the luma, with probability `p`."""

    p: float = 0.1

    def __post_init__(self) -> None:
        share("p", self.p)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        return (recolour(pixels, 1, 1, 0), target) if rng.random() < self.p else (pixels, target)
