"""Least squares between a discriminator's numbers and 1 for real, 0 for made pictures (Mao 2017, arXiv:1611.04076, eq. 2 and 9)."""

from __future__ import annotations

from torch import Tensor


def lsgan(scores: Tensor, real: bool | float) -> Tensor:
    """Mean of (D - target)^2, of any shape; D is not squashed.

    The discriminator minimises lsgan(D(x), True) + lsgan(D(G(z)), False), the generator lsgan(D(G(z)), True): all 0 at their targets, and without
    the paper's halves. real: the target, True (1), False (0) or a number between.
    """
    return (scores - float(real)).square().mean()
