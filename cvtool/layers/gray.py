"""Colour to gray in front of a network that reads one channel: the luma of ITU-R BT.601, as Pillow's "L"."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Gray(nn.Module):
    """B 3 H W RGB -> B 1 H W. The weights sum to one, so pictures normalised with the same mean and deviation in all channels stay normalised."""

    def forward(self, images: Tensor) -> Tensor:
        weights = torch.tensor([0.299, 0.587, 0.114], dtype=images.dtype, device=images.device)
        return torch.einsum("bchw,c->bhw", images, weights)[:, None]
