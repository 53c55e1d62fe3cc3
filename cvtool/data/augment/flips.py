"""Flip: the picture mirrored left to right, or turned over, or both (Krizhevsky 2012)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cvtool.data.augment.checks import share
from cvtool.data.augment.geometry import Pair, mirror, turn_over
from cvtool.results import Result


@dataclass(frozen=True)
class Flip:
    """Left and right exchanged with probability `p`. `swap`: the keypoints' new order afterwards, see `swapped`."""

    p: float = 0.5
    swap: Sequence[int] | None = None

    def __post_init__(self) -> None:
        share("p", self.p)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        return mirror(pixels, target, self.swap) if rng.random() < self.p else (pixels, target)


@dataclass(frozen=True)
class VerticalFlip:
    """Top and bottom exchanged with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        share("p", self.p)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        return turn_over(pixels, target) if rng.random() < self.p else (pixels, target)


@dataclass(frozen=True)
class Flips(Flip):
    """Left and right exchanged, then top and bottom, each with probability `p`."""

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        pixels, target = super().__call__(pixels, target, rng)
        return turn_over(pixels, target) if rng.random() < self.p else (pixels, target)


def swapped(names: Sequence[str]) -> list[int]:
    """The order of keypoints after a left-right flip: `left_x` and `right_x` change places, the others stay."""
    other = {"left": "right", "right": "left"}

    def partner(name: str) -> str:
        side, _, rest = name.partition("_")
        return f"{other[side]}_{rest}" if side in other else name

    return [names.index(partner(name)) if partner(name) in names else i for i, name in enumerate(names)]
