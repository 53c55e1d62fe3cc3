"""Sharpness and blur: each pixel against its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import ImageEnhance, ImageFilter

from cvtool.data.augment.checks import share, within
from cvtool.data.augment.geometry import Pair, image_of
from cvtool.results import Result


def sharpened(pixels: np.ndarray, factor: float) -> np.ndarray:
    """0 is smoothed by a 3 x 3 filter (1 1 1, 1 5 1, 1 1 1 over 13), 1 is the picture, 2 goes as far the other way."""
    return np.asarray(ImageEnhance.Sharpness(image_of(pixels)).enhance(factor))


@dataclass(frozen=True)
class Sharpness:
    """Sharper or smoother, by a factor within `strength` of 1."""

    strength: float = 0.5

    def __post_init__(self) -> None:
        within("strength", self.strength, 0, 10)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        return sharpened(pixels, rng.uniform(1 - self.strength, 1 + self.strength)), target


@dataclass(frozen=True)
class Blur:
    """A Gaussian of deviation 0.1 to `sigma` pixels, with probability `p` (Chen 2020, arXiv:2002.05709); three box filters stand for it."""

    sigma: float = 2.0
    p: float = 0.5

    def __post_init__(self) -> None:
        within("sigma", self.sigma, 0.1, 100)
        share("p", self.p)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        sigma = rng.uniform(0.1, self.sigma)
        if rng.random() >= self.p:
            return pixels, target
        return np.asarray(image_of(pixels).filter(ImageFilter.GaussianBlur(sigma))), target
