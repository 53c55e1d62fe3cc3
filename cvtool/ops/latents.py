"""Codes near other codes: noise, interpolation and extrapolation in a space of features (DeVries 2017, arXiv:1702.05538, section 3.2)."""

from __future__ import annotations

from torch import Tensor


def noise(codes: Tensor, deviation: Tensor, drawn: Tensor, strength: float = 0.5) -> Tensor:
    """c + strength sigma X (eq. 1). codes, drawn: ... D, X ~ N(0, 1). deviation: D, of each number over the data set."""
    return codes + strength * deviation * drawn


def interpolate(codes: Tensor, others: Tensor, strength: float = 0.5) -> Tensor:
    """c + strength (c' - c) (eq. 2): at 0 the code itself, at 1 the other. codes, others: ... D."""
    return codes + strength * (others - codes)


def extrapolate(codes: Tensor, others: Tensor, strength: float = 0.5) -> Tensor:
    """c + strength (c - c') (eq. 3): away from the other. codes, others: ... D."""
    return codes + strength * (codes - others)
