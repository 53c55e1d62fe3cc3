"""Thin-plate splines: the smoothest map through given points, as a plate bends that is pinned there (Bookstein 1989, doi:10.1109/34.24792).

    f(p) = a + b . p + sum_k w_k U(|p - c_k|),   U(r) = r^2 ln r,   sum_k w_k = 0,   sum_k w_k c_k = 0

goes through f(c_k) = v_k with the least bending. It is linear in the values v, so what depends on the places c alone is solved once.
"""

from __future__ import annotations

import torch
from torch import Tensor


def kernel(points: Tensor, centres: Tensor) -> Tensor:
    """... N 2 points and K 2 centres -> ... N (K + 3): U of every distance, then 1, x, y: the terms of f."""
    squared = (points[..., None, :] - centres).square().sum(-1)  # ... N K
    bent = torch.xlogy(squared, squared) / 2  # r^2 ln r = 1/2 r^2 ln r^2, and 0 at 0
    return torch.cat([bent, torch.ones_like(points[..., :1]), points], -1)


def solver(centres: Tensor) -> Tensor:
    """K 2 centres, three at least and not on one line -> (K + 3) K float64: times the values at the centres it gives w, a, b."""
    count = len(centres)
    rows = kernel(centres.double(), centres.double())  # K (K + 3)
    conditions = torch.cat([rows[:, count:].T, rows.new_zeros(3, 3)], 1)
    return torch.linalg.inv(torch.cat([rows, conditions]))[:, :count]


def spline(centres: Tensor, values: Tensor, points: Tensor) -> Tensor:
    """K 2 centres with values B K D, and ... N 2 points (... nothing or B) -> B N D: f at the points."""
    return kernel(points, centres) @ (solver(centres).to(values) @ values)
