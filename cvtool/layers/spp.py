"""Spatial pyramid pooling: a map of any size becomes a vector of one length (He 2014, arXiv:1406.4729, section 2.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpatialPyramidPooling(nn.Module):
    """The maximum in each bin of an n x n grid, for every n of `bins`. forward: B C H W -> B C*sum(n^2); bins 1, 2, 4 give 21 values a map.

    Bin i of n covers rows floor(i H / n) to ceil((i+1) H / n), so that none is empty however small the map. Channels stay together within a level.
    """

    def __init__(self, bins: tuple[int, ...] = (1, 2, 4)) -> None:
        super().__init__()
        self.bins = bins

    def features(self, channels: int) -> int:
        """The length of the vector."""
        return channels * sum(n * n for n in self.bins)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.adaptive_max_pool2d(x, n).flatten(1) for n in self.bins], 1)

    def extra_repr(self) -> str:
        return f"bins={self.bins}"
