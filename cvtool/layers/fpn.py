"""A backbone with a feature pyramid on top (Lin 2016, arXiv:1612.03144): strong semantics at every stride."""

from __future__ import annotations

from torch import Tensor, nn

from cvtool.layers.resnet import NarrowResNet
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork, LastLevelMaxPool


class Pyramid(nn.Module):
    """`body`'s features through lateral 1x1 convolutions, summed top-down by nearest x2 upsampling, smoothed by 3x3 convolutions.

    `extra` adds coarser levels (default: one by max-pooling). forward: B 3 H W -> one B `channels` h w map a level, finest first.
    """

    def __init__(self, body: NarrowResNet, channels: int, *, extra: ExtraFPNBlock | None = None) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(body.channels, channels, extra_blocks=extra or LastLevelMaxPool())
        self.out_channels = channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.fpn(self.body(x))
