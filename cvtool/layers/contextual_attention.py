"""Contextual attention: what stands under a hole is put together of patches from outside of it (Yu 2018, arXiv:1801.07892, section 4.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ContextualAttention(nn.Module):
    """Maps B C H W and their hole B 1 H W (1 = hole) -> maps of the same shape, each place a mixture of patches that are known. No parameters.

    Cosine similarity of the `patch` x `patch` windows of the maps at 1 / `rate` of their size, its sums over `propagate` neighbours in both places at
    once (attention propagation), the softmax of `scale` times that over the windows without a hole pixel, and with those shares the sum of the
    full-size patches of 2 rate x 2 rate, averaged where they overlap. Where no window is known whole, the maps stay as they are.
    """

    def __init__(self, *, patch: int = 3, rate: int = 2, scale: float = 10.0, propagate: int = 3) -> None:
        super().__init__()
        self.patch, self.rate, self.scale, self.propagate = patch, rate, scale, propagate

    def shares(self, maps: Tensor, hole: Tensor) -> tuple[Tensor, Tensor]:
        """(B N N: of each place, what it takes of each source, in rows that sum to 1; N = h w at 1 / rate. B: whether there is a source at all.)"""
        small = maps[:, :, :: self.rate, :: self.rate].float()
        height, width = small.shape[2:]
        windows = F.normalize(F.unfold(small, self.patch, padding=self.patch // 2), dim=1)  # B Cpp N
        with torch.autocast(maps.device.type, enabled=False):
            likeness = windows.transpose(1, 2) @ windows  # B N N
        likeness = propagated(likeness.view(-1, height, width, height, width), self.propagate).flatten(3).flatten(1, 2)
        dirty = F.max_pool2d(F.max_pool2d(hole.float(), self.rate, ceil_mode=True), self.patch, 1, self.patch // 2).flatten(1) > 0  # B N
        any_source = ~dirty.all(1)
        logits = (self.scale * likeness).masked_fill((dirty & any_source[:, None])[:, None, :], -torch.inf)
        return logits.softmax(2), any_source

    def forward(self, maps: Tensor, hole: Tensor) -> Tensor:
        """Sides that `rate` divides."""
        shares, any_source = self.shares(maps, hole)
        how = {"kernel_size": 2 * self.rate, "stride": self.rate, "padding": self.rate // 2}
        patches = F.unfold(maps, **how)  # B C(2r)(2r) N
        mixed = F.fold(patches @ shares.to(maps.dtype).transpose(1, 2), maps.shape[2:], **how)
        counts = F.fold(F.unfold(torch.ones_like(maps[:1, :1]), **how), maps.shape[2:], **how)
        return torch.where(any_source[:, None, None, None], mixed / counts, maps)


def propagated(likeness: Tensor, size: int) -> Tensor:
    """B h w h' w' -> the same: each its sum over `size` neighbours along the columns, then along the rows, taken in both places alike."""
    for first, second in ((2, 4), (1, 3)):
        length = likeness.shape[first]
        total = torch.zeros_like(likeness)
        for by in range(-min(size // 2, length - 1), min(size // 2, length - 1) + 1):
            kept, here, there = length - abs(by), max(0, -by), max(0, by)
            total.narrow(first, here, kept).narrow(second, here, kept).add_(likeness.narrow(first, there, kept).narrow(second, there, kept))
        likeness = total
    return likeness
