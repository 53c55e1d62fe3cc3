"""Normalisation of maps by name: `--norm batch|layer|instance|group|none`. They differ in what a mean and a deviation are taken over.

All compute gamma * (x - mu) / sqrt(var + eps) + beta with the biased variance, and a gamma and a beta for each channel:

    batch     per channel over batch and space; running statistics in eval mode (Ioffe 2015, arXiv:1502.03167, algorithm 1)
    layer     per sample over channels and space (Ba 2016, arXiv:1607.06450, eq. 4): the same in train and eval, and for a batch of one
    instance  per sample and channel over space (Ulyanov 2016, arXiv:1607.08022, eq. 5): a change of contrast a x + b leaves the output
    group     per sample over groups of channels and space (Wu 2018, arXiv:1803.08494, eq. 7)
    none      nothing

A normalisation stands before the non-linearity; the convolution before it needs no bias, because beta is one.
"""

from __future__ import annotations

from torch import nn

from cvtool.errors import UsageError, did_you_mean
from cvtool.layers.batch_norm import BatchNorm

NAMES = ("batch", "layer", "instance", "group", "none")


def norm(name: str, channels: int, *, groups: int = 32, affine: bool = True, eps: float = 1e-5) -> nn.Module:
    """The normalisation of that name for maps B C H W. groups: of `group`, fewer where they do not divide C. Raises UsageError for another name.

    affine: with gamma and beta, which start at 1 and 0.
    """
    if name == "batch":
        return BatchNorm(channels, eps=eps, affine=affine)
    if name == "layer":
        return nn.GroupNorm(1, channels, eps=eps, affine=affine)  # gamma and beta a channel, so that the picture may have any size
    if name == "instance":
        return nn.InstanceNorm2d(channels, eps=eps, affine=affine)
    if name == "group":
        return nn.GroupNorm(next(g for g in range(max(1, min(groups, channels)), 0, -1) if channels % g == 0), channels, eps=eps, affine=affine)
    if name == "none":
        return nn.Identity()
    raise UsageError(f"unknown normalisation '{name}'", hint=did_you_mean(name, NAMES) or "normalisations: " + ", ".join(NAMES))
