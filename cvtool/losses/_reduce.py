"""How values become one number, and the ranges of what a loss may be told."""

from __future__ import annotations

import math

from torch import Tensor

from cvtool.errors import UsageError

REDUCTIONS = ("mean", "sum", "none")


def within(loss: str, name: str, value: float | None, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    """Raises UsageError unless low <= value <= high (low < value where it is open); None is no value and passes."""
    if value is not None and not (low <= value <= high and (value > low or not open_low)):
        said = f"from {low:g} to {high:g}" if high < math.inf else f"{'above' if open_low else 'at least'} {low:g}"
        raise UsageError(f"loss: {name} of {loss} is {said}, not {value:g}")


def reduced(values: Tensor, reduction: str) -> Tensor:
    """The mean (0 of nothing), the sum, or the values themselves. Raises UsageError for another word."""
    if reduction == "mean":
        return values.mean() if values.numel() else values.sum()
    if reduction == "sum":
        return values.sum()
    if reduction == "none":
        return values
    raise UsageError(f"reduction is {', '.join(REDUCTIONS)}, not '{reduction}'")
