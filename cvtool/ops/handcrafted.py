"""Features by hand: how often colours occur, and which way edges run where.

Swain 1991, doi:10.1007/BF00130487 (colour histograms); Dalal 2005, doi:10.1109/CVPR.2005.177 (histograms of gradients).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BINS, CELLS, DIRECTIONS = 4, 4, 8
SIZE = BINS**3 + CELLS**2 * DIRECTIONS


def colours(images: Tensor) -> Tensor:
    """B 3 H W in [0, 1] -> B 64: the share of pixels in each of 4 x 4 x 4 boxes of RGB; sums to 1."""
    index = (images * BINS).long().clamp(0, BINS - 1)  # B 3 H W
    code = (index[:, 0] * BINS + index[:, 1]) * BINS + index[:, 2]
    return F.one_hot(code.flatten(1), BINS**3).float().mean(1)


def edges(images: Tensor) -> Tensor:
    """B 3 H W -> B 128: in each of 4 x 4 cells, the strength of gradients by direction (8 of 0 to 180 degrees); a vector of length 1."""
    gray = torch.einsum("bchw,c->bhw", images, images.new_tensor([0.299, 0.587, 0.114]))
    dx = F.pad(gray[:, :, 2:] - gray[:, :, :-2], (1, 1))
    dy = F.pad(gray[:, 2:] - gray[:, :-2], (0, 0, 1, 1))
    strength, angle = torch.hypot(dx, dy), torch.atan2(dy, dx).remainder(torch.pi)
    turn = (angle * DIRECTIONS / torch.pi).long().clamp(max=DIRECTIONS - 1)
    maps = F.one_hot(turn, DIRECTIONS).permute(0, 3, 1, 2) * strength[:, None]  # B 8 H W
    return F.normalize(F.adaptive_avg_pool2d(maps, CELLS).flatten(1), dim=1)


def handcrafted(images: Tensor) -> Tensor:
    """B 3 H W in [0, 1] -> B 192: the square root of the colours' shares (so that rare ones count) and the edges."""
    return torch.cat([colours(images).sqrt(), edges(images)], dim=1)
