"""Batch normalisation over the pictures of all processes (Ioffe 2015, arXiv:1502.03167; across devices: Peng 2018, arXiv:1711.07240).

Sums, sums of squares and counts are added up over the processes, forward and, for their gradients, back: the statistics are those of the whole batch
in one process. It works wherever torch.distributed does, on the CPU too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cvtool.layers.batch_norm import BatchNorm


class Channel:
    """The processes that layers add up over. A copy of a layer, such as a moving average's, adds up over the same ones: they cannot be copied."""

    def __init__(self, group: Any) -> None:
        self.group = group

    def __deepcopy__(self, memo: dict[int, Any]) -> Channel:
        return self


class _Synced:
    """What a normalisation layer's forward becomes; weights, buffers and their names stay. counts: False in a process whose pictures are only
    there to keep it in step."""

    channel: Channel
    counts = True

    def forward(self: Any, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)  # type: ignore[misc]
        from torch.distributed.nn.functional import all_reduce

        x = input.float()
        rest = [d for d in range(x.ndim) if d != 1]
        sums = torch.cat([x.sum(rest), x.square().sum(rest), x.new_tensor([x.numel() / x.shape[1]])])  # 2C + 1
        sums = all_reduce(sums if self.counts else sums * 0, group=self.channel.group)
        channels, count = x.shape[1], sums[-1]
        mean = sums[:channels] / count
        var = sums[channels:-1] / count - mean.square()
        self._follow(mean.detach(), var.detach() * count.detach() / (count.detach() - 1).clamp(min=1))
        shape = [1, channels] + [1] * (x.ndim - 2)
        x = (x - mean.view(shape)) * (var.clamp(min=0) + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            x = x * self.weight.view(shape) + self.bias.view(shape)
        return x.to(input.dtype)

    @torch.no_grad()
    def _follow(self: Any, mean: Tensor, var: Tensor) -> None:
        """The running statistics."""
        if self.running_mean is None:
            return
        self.num_batches_tracked += 1
        factor = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, factor)
        self.running_var.lerp_(var, factor)


class Synced1d(_Synced, nn.BatchNorm1d):
    """Of features."""


class Synced2d(_Synced, nn.BatchNorm2d):
    """Of maps."""


_KINDS: dict[type, type] = {nn.BatchNorm1d: Synced1d, nn.BatchNorm2d: Synced2d, BatchNorm: Synced2d}


def convert(model: nn.Module, group: Any) -> list[nn.Module]:
    """Make the model's normalisation layers so, in place; returns them. group: of processes, used for nothing else."""
    found, channel = [module for module in model.modules() if type(module) in _KINDS], Channel(group)
    for module in found:
        module.__class__ = _KINDS[type(module)]
        module.channel = channel  # type: ignore[assignment]
    return found
