"""Contrast of a picture's own: mean 0 and deviation 1 in each picture, so that a faded page and a sharp one look alike."""

from __future__ import annotations

from torch import Tensor, nn


class Contrast(nn.Module):
    """B C H W and B H W bool, where padded -> the same with mean 0 and deviation 1 over each picture's own part, 0 where padded.

    `least` is added to the deviation, so that the grain of an empty picture stays small.
    """

    least = 0.1  # of a range of 2

    def forward(self, images: Tensor, padding: Tensor) -> Tensor:
        inside = (~padding)[:, None].to(images.dtype)
        count = (inside.sum((1, 2, 3)) * images.shape[1]).clamp(min=1).view(-1, 1, 1, 1)
        mean = (images * inside).sum((1, 2, 3), keepdim=True) / count
        spread = (images - mean).square().mul(inside).sum((1, 2, 3), keepdim=True).div(count).sqrt()
        return (images - mean) / (spread + self.least) * inside
