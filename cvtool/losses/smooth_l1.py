"""Smooth L1: a square near zero, a straight line beyond, so that outliers do not rule (Girshick 2015, arXiv:1504.08083)."""

from __future__ import annotations

import torch
from torch import Tensor


def smooth_l1_loss(predicted: Tensor, target: Tensor, *, beta: float = 1.0) -> Tensor:
    """x^2 / (2 beta) where |x| < beta, else |x| - beta / 2, of each x = predicted - target (eq. 3 with beta = 1), not reduced.

    It is the Huber loss divided by its delta, beta. beta = 0 is the plain L1.
    """
    x = (predicted - target).abs()
    if beta == 0:
        return x
    return torch.where(x < beta, x.square() / (2 * beta), x - beta / 2)
