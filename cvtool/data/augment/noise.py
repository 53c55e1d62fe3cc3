"""Noise and compression: what a cheap camera adds."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image

from cvtool.data.augment.checks import share, within
from cvtool.data.augment.geometry import Pair, image_of
from cvtool.results import Result


@cache
def normal_quantiles() -> np.ndarray:
    """65536 float32: as many equally likely values of a standard normal. To look them up is four times as fast as to draw normals."""
    return torch.special.ndtri((torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)).float().numpy()


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of deviation up to `sigma` (of 255) on every value."""

    sigma: float = 10.0

    def __post_init__(self) -> None:
        within("sigma", self.sigma, 0, 255)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        sigma = rng.uniform(0, self.sigma)
        table = np.rint(sigma * normal_quantiles()).astype(np.int16)
        values = table.take(rng.integers(1 << 16, size=pixels.shape, dtype=np.uint16))
        values += pixels
        return values.clip(0, 255, out=values).astype(np.uint8), target


@dataclass(frozen=True)
class Jpeg:
    """Stored as a JPEG of quality `quality` to 95 and read again, with probability `p`."""

    quality: int = 40
    p: float = 0.5

    def __post_init__(self) -> None:
        within("quality", self.quality, 1, 95)
        share("p", self.p)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        quality = int(rng.integers(self.quality, 96))
        if rng.random() >= self.p:
            return pixels, target
        buffer = io.BytesIO()
        image_of(pixels).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer)), target
