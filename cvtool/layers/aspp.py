"""Atrous spatial pyramid pooling: one map read at several rates at once, so that objects of every size fill some kernel.

v2 (Chen 2016, arXiv:1606.00915, section 3.2): one 3 x 3 branch a rate (6, 12, 18, 24), the branches' scores summed. v3 (Chen 2017, arXiv:1706.05587,
section 3.3): a 1 x 1, three rates (6, 12, 18 at an output stride of 16) and the mean of the whole picture, concatenated, then 1 x 1. At an output
stride of 8 a step is half as far, and v3's rates double. Height and width stay.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.errors import UsageError
from cvtool.layers.batch_norm import BatchNorm

RATES_V2 = (6, 12, 18, 24)
RATES_V3 = (6, 12, 18)


def rates_at(output_stride: int, rates: tuple[int, ...] = RATES_V3) -> tuple[int, ...]:
    """`rates`, which are those at an output stride of 16, at 16 or at 8. Raises UsageError for another stride."""
    if output_stride not in (8, 16):
        raise UsageError(f"the output stride is 8 or 16, not {output_stride}")
    return tuple(rate * 16 // output_stride for rate in rates)


class ASPPv2(nn.Module):
    """B C H W -> B outputs H W: the sum over the rates of 3 x 3 at the rate, 1 x 1, 1 x 1 (fc6, fc7, fc8), each with dropout (DeepLab-LargeFOV's)."""

    def __init__(self, inputs: int, outputs: int, *, rates: tuple[int, ...] = RATES_V2, hidden: int = 1024, dropout: float = 0.5) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, hidden, 3, padding=rate, dilation=rate), nn.ReLU(), nn.Dropout(dropout),
                nn.Conv2d(hidden, hidden, 1), nn.ReLU(), nn.Dropout(dropout),
                nn.Conv2d(hidden, outputs, 1),
            )
            for rate in rates
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([branch(x) for branch in self.branches]).sum(0)


class ImagePooling(nn.Sequential):
    """The mean over space, 1 x 1, normalised, spread over the map again: the level of the pyramid that sees everything."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, outputs, 1, bias=False), BatchNorm(outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(super().forward(x), size=x.shape[-2:], mode="bilinear", align_corners=False)


class ASPP(nn.Module):
    """v3: B C H W -> B outputs H W. Its tensors have the names that torchvision's have. See `rates_at` for the rates."""

    def __init__(self, inputs: int, outputs: int = 256, *, rates: tuple[int, ...] = RATES_V3, dropout: float = 0.5) -> None:
        super().__init__()
        branches: list[nn.Module] = [nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())]
        for rate in rates:
            conv = nn.Conv2d(inputs, outputs, 3, padding=rate, dilation=rate, bias=False)
            branches.append(nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU()))
        branches.append(ImagePooling(inputs, outputs))
        self.convs = nn.ModuleList(branches)
        joined = nn.Conv2d(len(branches) * outputs, outputs, 1, bias=False)
        self.project = nn.Sequential(joined, nn.BatchNorm2d(outputs), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([branch(x) for branch in self.convs], 1))
