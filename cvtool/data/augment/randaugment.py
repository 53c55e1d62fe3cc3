"""RandAugment: `n` of fourteen operations in sequence, all of the one strength `m` (Cubuk 2019, arXiv:1909.13719).

Strength 10 is AutoAugment's largest; the ranges of torchvision's 31 steps, three of which are one of ours:

| Identity, AutoContrast, Equalize | have no strength |
| Rotate | 30 degrees at 10 |
| ShearX, ShearY | 0.3 |
| TranslateX, TranslateY | 150 of 331 of the side |
| Color, Contrast, Brightness, Sharpness | a factor of 1 +- 0.9; the original code goes from 0.1 at 0 to 1.9 at 10, so that 5 would change nothing |
| Posterize | 8 bits at 0, 4 at 10; the original code has the number of bits the other way round |
| Solarize | threshold 255 at 0, 0 at 10; the original the other way round |

Above 10 the ranges go on in a straight line, as far as they mean something. Signs are drawn. Shears and rotations are about the centre.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cvtool.data.augment.affine import rotated, sheared
from cvtool.data.augment.checks import within
from cvtool.data.augment.color import recolour
from cvtool.data.augment.geometry import Pair, shifted
from cvtool.data.augment.sharpness import sharpened
from cvtool.data.augment.tones import equalized, posterized, solarized, stretched
from cvtool.results import Result

MOST = 30


def _factor(signed: float) -> float:
    return max(0.0, 1 + 0.9 * signed)


def _across(share: float, side: int) -> int:
    return round(max(-1.0, min(1.0, share * 150 / 331)) * side)


# name -> (pixels, target, strength over 10 with its sign) -> pair
OPERATIONS: dict[str, Callable[[np.ndarray, Result, float], Pair]] = {
    "identity": lambda p, t, s: (p, t),
    "autocontrast": lambda p, t, s: (stretched(p), t),
    "equalize": lambda p, t, s: (equalized(p), t),
    "rotate": lambda p, t, s: rotated(p, t, 30 * s),
    "solarize": lambda p, t, s: (solarized(p, max(0, round(255 * (1 - abs(s))))), t),
    "color": lambda p, t, s: (recolour(p, 1, 1, _factor(s)), t),
    "posterize": lambda p, t, s: (posterized(p, max(1, 8 - round(4 * abs(s)))), t),
    "contrast": lambda p, t, s: (recolour(p, 1, _factor(s), 1), t),
    "brightness": lambda p, t, s: (recolour(p, _factor(s), 1, 1), t),
    "sharpness": lambda p, t, s: (sharpened(p, _factor(s)), t),
    "shear-x": lambda p, t, s: sheared(p, t, 0.3 * s, 0),
    "shear-y": lambda p, t, s: sheared(p, t, 0, 0.3 * s),
    "translate-x": lambda p, t, s: shifted(p, t, 0, _across(s, p.shape[1])),
    "translate-y": lambda p, t, s: shifted(p, t, _across(s, p.shape[0]), 0),
}


@dataclass(frozen=True)
class RandAugment:
    """`n` operations drawn alike and with repetition, each of strength `m` (0 to 30, of which 10 is the paper's largest). n = 0 changes nothing."""

    n: int = 2
    m: int = 9

    def __post_init__(self) -> None:
        within("n", self.n, 0, 14)
        within("m", self.m, 0, MOST)

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        for name, strength in self.drawn(rng):
            pixels, target = OPERATIONS[name](pixels, target, strength)
        return pixels, target

    def drawn(self, rng: np.random.Generator) -> list[tuple[str, float]]:
        """The next operations and their strengths over 10, with signs."""
        names = list(OPERATIONS)
        chosen, signs = rng.integers(len(names), size=self.n), rng.integers(2, size=self.n)
        return [(names[i], self.m / 10 * (1 if sign else -1)) for i, sign in zip(chosen.tolist(), signs.tolist(), strict=True)]
