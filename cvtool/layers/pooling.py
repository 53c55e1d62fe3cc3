"""Halving height and width by name: `--down max|avg|stride`."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.errors import UsageError, did_you_mean

NAMES = ("max", "avg", "stride")


class Down(nn.Module):
    """B C H W -> B C floor(H/2) floor(W/2): the maximum or the mean of each 2 x 2 cells, or a learned 2 x 2 convolution of stride 2.

    All three read the same disjoint cells, so that one can stand for another at every size. switches (max only): forward gives a pair, the
    second where each maximum lay: B C h w int64, its place in the row-major H x W map, as `unpool` takes it.
    Raises UsageError for another name, or for the switches of a pooling that has none.
    """

    def __init__(self, name: str, channels: int, *, switches: bool = False) -> None:
        super().__init__()
        if name not in NAMES:
            raise UsageError(f"unknown down-sampling '{name}'", hint=did_you_mean(name, NAMES) or "down-samplings: " + ", ".join(NAMES))
        if switches and name != "max":
            raise UsageError(f"unpooling needs where each maximum lay, and '{name}' takes none", hint="--down max")
        self.name, self.switches = name, switches
        self.conv = nn.Conv2d(channels, channels, 2, 2) if name == "stride" else None

    def forward(self, x: Tensor) -> Any:
        if self.conv is not None:
            return self.conv(x)
        if self.name == "avg":
            return F.avg_pool2d(x, 2)
        return F.max_pool2d(x, 2, return_indices=True) if self.switches else F.max_pool2d(x, 2)

    def extra_repr(self) -> str:
        return self.name
