"""L2, the mean squared error: far off counts more than often off (Zhao 2015, arXiv:1511.08861, section III)."""

from __future__ import annotations

from torch import Tensor

from cvtool.losses._reduce import reduced

KINDS = ("pictures",)
ALIASES = ("mse",)


def l2(prediction: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """(x - y)^2, of any shape; "mean", "sum" or "none". The mean's gradient is 2 (x - y) / N."""
    return reduced((prediction - target).square(), reduction)
