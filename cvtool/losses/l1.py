"""L1, the mean absolute error: every difference counts as far as it goes (Zhao 2015, arXiv:1511.08861, eq. 1)."""

from __future__ import annotations

from torch import Tensor

from cvtool.losses._reduce import reduced

KINDS = ("pictures", "boxes")
ALIASES = ("mae",)


def l1(prediction: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """|x - y|, of any shape; "mean", "sum" or "none". (A seed text prints the sum and calls it the average: `reduction="sum"` is its formula.)"""
    return reduced((prediction - target).abs(), reduction)
