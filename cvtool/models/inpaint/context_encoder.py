"""Context Encoder: what a hole's surroundings say, through a narrow code, is what belongs into it (Pathak 2016, arXiv:1604.07379).

Strided convolutions to a map of 4 x 4 places, a layer that connects the places of each channel with each other and nothing across channels, a 1 x 1
convolution that joins these, and transposed convolutions back to the whole picture (section 3.1). The hole is 0, the mean, at the entrance. Lost are
0.999 of the squared error in the hole and 0.001 of a discriminator's doubt, DCGAN's, which sees completed and true pictures (eq. 1 to 3).

    cvtool train -m context-encoder --data photos/ ;  cvtool train -m context-encoder --data photos/ --bottleneck conv
    cvtool inpaint photo.jpg --mask hole.png -m runs/0001 -o clean.jpg
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from cvtool.errors import UsageError
from cvtool.layers.channel_fc import ChannelFC
from cvtool.models.generate.dcgan import Discriminator, widening
from cvtool.models.inpaint._filler import Filler, around_zero

VARIANTS = {
    "base": {"image_size": 128, "width": 64},
    "small": {"image_size": 64, "width": 32},
    "tiny": {"image_size": 32, "width": 8},
}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
RECIPE = {
    "step": "inpainting",
    "gan_loss": "non-saturating",
    "adversarial": 0.001,
    "optimizer": "adam:beta1=0.5",
    "lr": 2e-3,
    "discriminator_lr": 2e-4,
    "weight_decay": 0.0,
    "batch_size": 32,
    "epochs": 200,
    "schedule": "constant",
    "augment": "resized-crop:0.3,flip",
    "clip": 0.0,
}
REBUILT = 0.999  # lambda_rec of eq. 3
BOTTLENECKS = ("channel-fc", "conv")


class Generator(nn.Module):
    """B 3 H W in [-1, 1], 0 in the hole -> B 3 H W in [-1, 1]."""

    def __init__(self, size: int, widths: list[int], bottleneck: str) -> None:
        super().__init__()
        down: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for a, b in pairwise(widths):
            down += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
        self.encoder = nn.Sequential(*down)
        deep, side = widths[-1], size >> len(widths)
        across = ChannelFC(deep, side, side) if bottleneck == "channel-fc" else nn.Conv2d(deep, deep, 3, 1, 1, bias=False)
        self.bottleneck = nn.Sequential(across, nn.ReLU(), nn.Conv2d(deep, deep, 1, bias=False), nn.BatchNorm2d(deep), nn.ReLU())
        up: list[nn.Module] = []
        for a, b in pairwise(widths[::-1]):
            up += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        self.decoder = nn.Sequential(*up, nn.ConvTranspose2d(widths[0], 3, 4, 2, 1), nn.Tanh())

    def forward(self, seen: Tensor) -> Tensor:
        return self.decoder(self.bottleneck(self.encoder(seen)))


class ContextEncoder(Filler):
    """The words are those of `build`. M is 1 in the hole, as in the paper."""

    form, share = "non-saturating", 0.001

    def __init__(self, *, size: int, width: int, bottleneck: str) -> None:
        super().__init__()
        self.size, self.prepare = size, around_zero(size)
        widths = [min(wide, 8 * width) for wide in widening(size, width)]
        self.generator = Generator(size, widths, bottleneck)
        self.discriminator = Discriminator(3, widths)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.normal_(module.weight, 0.0, 0.02)

    def reconstruct(self, images: Tensor, told: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """`l2`: 0.999 of the mean over the hole of (x - F((1 - M) * x))^2 (eq. 1)."""
        made = self.generator(images * (1 - told))
        squared = (told * (images - made).float()).square().sum() / (3 * told.sum()).clamp(min=1)
        return torch.lerp(images, made.to(images), told), {"l2": REBUILT * squared}

    def judge(self, pictures: Tensor, told: Tensor) -> Tensor:
        return self.discriminator(pictures)  # type: ignore[misc]

    @torch.no_grad()
    def fill(self, images: Tensor, masks: Tensor) -> Tensor:
        """B 3 H W in [0, 1] and masks B 1 H W bool, True = hole -> B 3 H W in [0, 1]; of the one size that it is built for."""
        return (self.generator((2 * images - 1) * ~masks).float() + 1) / 2


def build(*, classes: int = 0, image_size: int = 128, width: int = 64, bottleneck: str = "channel-fc") -> ContextEncoder:
    """image_size: a power of two from 8 on. width: maps of the first layer, doubled in each up to eightfold. bottleneck: channel-fc, or conv, a 3 x 3
    convolution in its place. Raises UsageError."""
    if image_size < 8 or image_size & (image_size - 1):
        raise UsageError(f"image_size={image_size} is no power of two from 8 on", hint="such as 64 or 128")
    if width < 1:
        raise UsageError(f"width={width}: there is one map at least")
    if bottleneck not in BOTTLENECKS:
        raise UsageError(f"unknown bottleneck '{bottleneck}'", hint="bottleneck: " + ", ".join(BOTTLENECKS))
    return ContextEncoder(size=image_size, width=width, bottleneck=bottleneck)
