"""Rotate, translate, shear: the picture moved in its own frame, about its centre; grey comes in from outside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cvtool.data.augment.checks import share, within
from cvtool.data.augment.geometry import Pair, shifted, warp
from cvtool.results import Result


def about_centre(pixels: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """2 x 3: the linear map (2 x 2) that leaves the picture's centre where it is."""
    centre = np.array([pixels.shape[1] / 2, pixels.shape[0] / 2])
    return np.column_stack([linear, centre - linear @ centre])


def rotated(pixels: np.ndarray, target: Result, degrees: float) -> Pair:
    """Turned anticlockwise, as it is seen."""
    turn = math.radians(degrees)
    return warp(pixels, target, about_centre(pixels, np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])))


def sheared(pixels: np.ndarray, target: Result, x: float, y: float) -> Pair:
    """Each row moved by `x` times its distance below the centre, and each column by `y` times its distance right of it."""
    return warp(pixels, target, about_centre(pixels, np.array([[1.0, x], [y, 1.0]])))


@dataclass(frozen=True)
class Rotate:
    """Turned by up to `degrees` either way."""

    degrees: float = 10.0

    def __post_init__(self) -> None:
        within("degrees", self.degrees, 0, 180)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        return rotated(pixels, target, rng.uniform(-self.degrees, self.degrees))


@dataclass(frozen=True)
class Translate:
    """Moved by up to `fraction` of each side either way, by whole pixels. Boxes whose centre went out are left out."""

    fraction: float = 0.1

    def __post_init__(self) -> None:
        share("fraction", self.fraction)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        down, right = rng.uniform(-self.fraction, self.fraction, 2) * pixels.shape[:2]
        return shifted(pixels, target, round(down), round(right))


@dataclass(frozen=True)
class Shear:
    """Slanted by up to `degrees` either way, rows and columns at once."""

    degrees: float = 10.0

    def __post_init__(self) -> None:
        within("degrees", self.degrees, 0, 40)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        x, y = np.tan(np.radians(rng.uniform(-self.degrees, self.degrees, 2))).tolist()
        return sheared(pixels, target, x, y)
