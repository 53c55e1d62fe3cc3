"""Doubling height and width by name: `--up transpose|bilinear|nearest|unpool`."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.errors import UsageError, did_you_mean
from cvtool.layers.unpool import unpool

NAMES = ("transpose", "bilinear", "nearest", "unpool")


class Up(nn.Module):
    """B inputs h w -> B outputs H W, H x W being `size` (default 2h x 2w).

    transpose  a transposed 2 x 2 convolution of stride 2: every output pixel belongs to one input pixel, so no checkerboard
    bilinear   interpolation between the centres of pixels (align_corners=False: a pixel's value stands at its middle), then a 3 x 3 convolution
    nearest    every pixel repeated, then a 3 x 3 convolution
    unpool     a 3 x 3 convolution, then each value to its switch (see `unpool`): forward needs the `switches` of the pooling on the same level

    Raises UsageError for another name.
    """

    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        super().__init__()
        if name not in NAMES:
            raise UsageError(f"unknown up-sampling '{name}'", hint=did_you_mean(name, NAMES) or "up-samplings: " + ", ".join(NAMES))
        self.name = name
        self.conv: nn.Module = nn.ConvTranspose2d(inputs, outputs, 2, 2) if name == "transpose" else nn.Conv2d(inputs, outputs, 3, 1, 1)

    def forward(self, x: Tensor, switches: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        size = size or (2 * x.shape[-2], 2 * x.shape[-1])
        if self.name == "transpose":
            return self.conv(x, output_size=size)
        if self.name == "unpool":
            if switches is None:
                raise ValueError("unpooling needs the switches of a max-pooling")
            return unpool(self.conv(x), switches, size)
        return self.conv(interpolate(x, size, self.name))

    def extra_repr(self) -> str:
        return self.name


def interpolate(x: Tensor, size: tuple[int, int], name: str = "bilinear") -> Tensor:
    """B C h w -> B C H W by `nearest` or `bilinear`, which takes a pixel's value at its centre ((i + 0.5) / h, align_corners=False).

    A linear ramp stays one in the interior; outside of the outermost centres the border's values repeat.
    """
    return F.interpolate(x, size=size, mode=name, align_corners=False if name == "bilinear" else None)
