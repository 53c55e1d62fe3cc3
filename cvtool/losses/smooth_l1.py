"""Smooth L1: a square near zero, a straight line beyond, so that outliers do not rule (Girshick 2015, arXiv:1504.08083)."""

from __future__ import annotations

import torch
from torch import Tensor

from cvtool.losses._reduce import reduced, within

KINDS = ("boxes", "pictures")
ALIASES = ("huber",)


def smooth_l1(prediction: Tensor, target: Tensor, *, beta: float = 1.0, reduction: str = "mean") -> Tensor:
    """x^2 / (2 beta) where |x| < beta, else |x| - beta / 2, of each x = prediction - target (eq. 3 with beta = 1); "mean", "sum" or "none".

    It is the Huber loss divided by its delta, beta; the slope beyond is 1. beta = 0 is the plain L1. A box's loss is the sum over its four
    numbers x, y, w, h (eq. 2).
    """
    x = (prediction - target).abs()
    if beta > 0:
        x = torch.where(x < beta, x.square() / (2 * beta), x - beta / 2)
    return reduced(x, reduction)


def check(*, beta: float, **others: object) -> None:
    """Raises UsageError for a threshold below 0."""
    within("smooth-l1", "beta", beta, 0)
