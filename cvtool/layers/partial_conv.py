"""Partial convolution: only known pixels are looked at, and what they say is scaled up to a full window (Liu 2018, arXiv:1804.07723)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PartialConv(nn.Module):
    """x B C H W and its mask -> B outputs h w and the next mask. kernel: odd; padded with zeros by half of it.

    The mask is the paper's: 1 = known, 0 = hole, the opposite of the program's everywhere else; B 1 H W, or B C H W where channels know different
    places. With X, M a window of x and mask (eq. 1):

        x' = W^T (X * M) sum(1) / sum(M) + b   where sum(M) > 0, else 0

    sum(1) is that of a mask that is full, with the same zeros around it: where all is known, this is an ordinary convolution, at the edge as well.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        channels, mask = mask.shape[1], mask.to(x.dtype)
        known = mask.float().sum(1, keepdim=True)  # B 1 H W
        total, full = self.summed(known), self.summed(torch.full_like(known[:1], channels))
        some = total > 0
        out = self.conv(x * mask) * torch.where(some, full / total.clamp(min=1), 0.0)
        if self.bias is not None:
            out = out + self.bias[:, None, None] * some
        return out, some.to(mask.dtype)

    def summed(self, maps: Tensor) -> Tensor:
        """The convolution with a kernel of ones and no bias: integers, which float32 holds exactly in any precision that the rest is computed in."""
        return F.avg_pool2d(maps, self.kernel, self.stride, self.kernel // 2, divisor_override=1)
