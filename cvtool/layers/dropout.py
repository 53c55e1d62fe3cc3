"""Dropout in both forms, and at test time (Srivastava 2014; at test time as the noise of pix2pix, arXiv:1611.07004, section 3.1).

The texts' p is the probability to KEEP: x is kept or zero in training, and p x at test. torch's p is the probability to DROP, and its form is
inverted: x / (1 - p) or zero in training, x at test. The program speaks of the probability to drop throughout (`--dropout 0.1`), p_drop = 1 - p_keep.
The forms differ by a constant factor, which the weights behind them take up.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class KeepDropout(nn.Module):
    """The texts' form: each x is kept with probability `keep` in training; at test keep x. Raises ValueError."""

    def __init__(self, keep: float) -> None:
        super().__init__()
        if not 0 < keep <= 1:
            raise ValueError(f"x is kept with a probability in (0, 1], not {keep}")
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        return self.keep * F.dropout(x, 1 - self.keep, self.training)  # torch's has divided by it

    def extra_repr(self) -> str:
        return f"keep={self.keep:g}"


def drop_of(keep: float) -> float:
    """The texts' p as torch's, and back."""
    return 1 - keep


class AtTest(nn.Dropout):
    """A dropout that does not heed eval mode."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, True, self.inplace)


class AtTest1d(nn.Dropout1d):
    """The same for whole channels of B C L."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout1d(input, self.p, True, self.inplace)


class AtTest2d(nn.Dropout2d):
    """The same for whole channels of B C H W."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout2d(input, self.p, True, self.inplace)


_AT_TEST: dict[type, type] = {nn.Dropout: AtTest, nn.Dropout1d: AtTest1d, nn.Dropout2d: AtTest2d}


def dropout_at_test(model: nn.Module, on: bool = True) -> int:
    """Let the model's dropouts go on in eval mode, or no more; returns how many it has. Names of tensors and all other modules stay as they are."""
    changes = _AT_TEST if on else {always: own for own, always in _AT_TEST.items()}
    count = 0
    for module in model.modules():
        if type(module) in changes:
            module.__class__ = changes[type(module)]
        count += isinstance(module, tuple(_AT_TEST))
    return count
