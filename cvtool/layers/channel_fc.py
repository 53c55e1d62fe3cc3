"""Channel-wise fully connected layer: every place of a map hears of all others, and no channel of another (Pathak 2016, arXiv:1604.07379)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelFC(nn.Module):
    """B C H W -> the same shape, by a matrix of HW x HW for each channel: C (HW)^2 weights, no bias. Maps have this one size."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        count = height * width
        self.weight = nn.Parameter(torch.empty(channels, count, count).uniform_(-1, 1) / count**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("cmn,bcn->bcm", self.weight, x.flatten(2)).view_as(x)

    def extra_repr(self) -> str:
        return "{} channels, {} places".format(*self.weight.shape[:2])
