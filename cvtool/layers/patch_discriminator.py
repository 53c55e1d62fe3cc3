"""PatchGAN: is this patch real? Asked of every overlapping patch by one convolutional network (Isola 2016, arXiv:1611.07004)."""

from __future__ import annotations

from torch import Tensor, nn

from cvtool.errors import UsageError
from cvtool.layers.norm import norm as norm_layer


class PatchDiscriminator(nn.Module):
    """B C H W -> B 1 h w logits, each of one patch.

    width: channels of the first convolution; they double with each layer, up to eight times as many. layers: convolutions of stride 2; 3 of them
    see patches of 70 x 70 pixels and make 30 x 30 of 256 x 256 (appendix 6.1.2). norm: see `layers.norm`; the first and the last convolution
    have none. Weights begin as the paper says, with a deviation of 0.02. Raises UsageError for pictures too small for a single patch.
    """

    def __init__(self, channels: int = 3, *, width: int = 64, layers: int = 3, norm: str = "batch") -> None:
        super().__init__()
        if layers < 1 or width < 1:
            raise UsageError(f"a discriminator has a layer and a channel at least, not {layers} and {width}")
        parts: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        before = width
        for i in range(1, layers + 1):
            after = width * min(2**i, 8)
            parts += [nn.Conv2d(before, after, 4, 2 if i < layers else 1, 1, bias=norm == "none"), norm_layer(norm, after), nn.LeakyReLU(0.2)]
            before = after
        self.model = nn.Sequential(*parts, nn.Conv2d(before, 1, 4, 1, 1))
        self.least = 2**layers * 3  # what leaves the strides must be 3 pixels: two convolutions of 4, padded by 1, take one each
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.02)

    def forward(self, images: Tensor) -> Tensor:
        if min(images.shape[-2:]) < self.least:
            sides = f"{images.shape[-1]} x {images.shape[-2]}"
            raise UsageError(f"a discriminator of this depth takes pictures from {self.least} pixels, not {sides}", hint="fewer discriminator_layers")
        return self.model(images)
