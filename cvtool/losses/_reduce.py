"""How values become one number."""

from __future__ import annotations

from torch import Tensor

from cvtool.errors import UsageError

REDUCTIONS = ("mean", "sum", "none")


def reduced(values: Tensor, reduction: str) -> Tensor:
    """The mean (0 of nothing), the sum, or the values themselves. Raises UsageError for another word."""
    if reduction == "mean":
        return values.mean() if values.numel() else values.sum()
    if reduction == "sum":
        return values.sum()
    if reduction == "none":
        return values
    raise UsageError(f"reduction is {', '.join(REDUCTIONS)}, not '{reduction}'")
