"""DCGAN: pictures out of noise, by convolutions that double them, against a mirrored critic (Radford 2015, arXiv:1511.06434).

Generator, of z ~ N(0, 1) as 100 x 1 x 1: transposed convolutions 4 x 4 to 512 x 4 x 4, 256 x 8 x 8, 128 x 16 x 16, 64 x 32 x 32, 3 x 64 x 64, the
last with tanh, all others with BN and ReLU; 3,576,704 parameters. Discriminator: convolutions 4 x 4, stride 2, to 64, 128, 256, 512 maps, LeakyReLU
0.2, BN on all but the first, and one to a single number; 2,765,568. No layer has a bias. Other sizes have fewer or more of the doublings.

conditional: the class goes to both as one of K planes or numbers that is 1 (Mirza 2014, arXiv:1411.1784).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.errors import UsageError
from cvtool.layers.activation import activation as activated
from cvtool.layers.norm import norm as normalisation
from cvtool.layers.pooling import Down
from cvtool.layers.upsample import Up
from cvtool.models.generate._players import Players, values

VARIANTS = {
    "base": {"image_size": 64, "width": 64, "noise": 100},
    "small": {"image_size": 32, "width": 32, "noise": 64},
    "tiny": {"image_size": 16, "width": 8, "noise": 16},
}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
RECIPE = {
    "step": "gan",
    "optimizer": "adam:beta1=0.5",
    "lr": 2e-4,
    "weight_decay": 0.0,
    "batch_size": 128,
    "epochs": 100,
    "schedule": "constant",
    "augment": "flip",
    "clip": 0.0,
}
UPS = ("transpose", "bilinear", "nearest")  # unpooling needs switches, and there is no pooling


class Generator(nn.Sequential):
    """B Z 1 1 -> B C H W, squashed by tanh or sigmoid. up: how maps double, by the paper's transposed 4 x 4 convolution or as `Up` does."""

    def __init__(self, noise: int, widths: Sequence[int], channels: int, norm: str = "batch", *, up: str = "transpose", activation: str = "relu",
                 squashed: str = "tanh") -> None:  # fmt: skip
        layers: list[nn.Module] = [nn.ConvTranspose2d(noise, widths[0], 4, 1, 0, bias=False), normalisation(norm, widths[0]), active(activation)]
        for a, b in pairwise(widths):
            layers += [doubling(a, b, up), normalisation(norm, b), active(activation)]
        super().__init__(*layers, doubling(widths[-1], channels, up), active(squashed))


def widening(size: int, width: int) -> list[int]:
    """Maps of the discriminator's layers, one a halving of `size` down to 4: width, 2 width, 4 width ..."""
    return [width << i for i in range((size // 4).bit_length() - 1)]


def active(name: str) -> nn.Module:
    return activated(name, inplace=True)


def doubling(inputs: int, outputs: int, up: str) -> nn.Module:
    """The paper's 4 x 4 transposed convolution of stride 2 (`transpose`), or values between or repeated and a 3 x 3 one (`bilinear`, `nearest`)."""
    return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False) if up == "transpose" else Up(up, inputs, outputs)


def halving(inputs: int, outputs: int, down: str) -> list[nn.Module]:
    """The paper's 4 x 4 convolution of stride 2 (`stride`), or a 3 x 3 one and a pooling (`max`, `avg`): what it replaced (section 3)."""
    if down == "stride":
        return [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)]
    return [nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), Down(down, outputs)]


class Discriminator(nn.Sequential):
    """B C H W -> logits B: how real a picture looks."""

    def __init__(
        self, channels: int, widths: Sequence[int], down: str = "stride", norm: str = "batch", *, activation: str = "leaky-relu:0.2"
    ) -> None:
        layers = [*halving(channels, widths[0], down), active(activation)]
        for a, b in pairwise(widths):
            layers += [*halving(a, b, down), normalisation(norm, b), active(activation)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False), nn.Flatten(0))


class DCGAN(Players):
    """Two players of pictures `size` x `size`; the words are those of `build`. conditional: how many classes both are told of, 0 for none."""

    def __init__(
        self, *, size: int, width: int, noise: int, conditional: int, latent: str = "gaussian", range: Sequence[float] = (-1, 1),
        channels: int = 3, down: str = "stride", up: str = "transpose", norm: str = "batch", discriminator_norm: str = "", activation: str = "",
    ) -> None:  # fmt: skip
        low, high, squashed = values(range)
        super().__init__(size=size, noise=noise, latent=latent, low=low, high=high, conditional=conditional)
        widths = widening(size, width)
        self.channels = channels
        self.generator = Generator(noise + conditional, widths[::-1], channels, norm, up=up, activation=activation or "relu", squashed=squashed)
        judged = activation or "leaky-relu:0.2"
        self.discriminator = Discriminator(channels + conditional, widths, down, discriminator_norm or norm, activation=judged)
        self.apply(_initialise)

    def generate(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        told = z if classes is None else torch.cat([z, F.one_hot(classes, self.conditional).to(z)], 1)
        return self.generator(told[:, :, None, None]).expand(-1, 3, -1, -1)

    def judge(self, pictures: Tensor, classes: Tensor | None = None) -> Tensor:
        if self.channels == 1:
            pictures = pictures.mean(1, keepdim=True)
        if classes is None:
            return self.discriminator(pictures)
        planes = F.one_hot(classes, self.conditional).to(pictures)[:, :, None, None].expand(-1, -1, *pictures.shape[2:])
        return self.discriminator(torch.cat([pictures, planes], 1))


def _initialise(module: nn.Module) -> None:
    """N(0, 0.02), of the norms' scales around 1 (section 3, and the authors' code)."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def build(
    *, classes: int = 0, image_size: int = 64, width: int = 64, noise: int = 100, latent: str = "gaussian", range: tuple[int, ...] = (-1, 1),
    conditional: bool = False, channels: int = 3, down: str = "stride", up: str = "transpose", norm: str = "batch", discriminator_norm: str = "",
    activation: str = "",
) -> DCGAN:  # fmt: skip
    """image_size: a power of two, 8 at least; pictures are scaled, and their middle cut out. width: maps of the discriminator's first layer.

    noise: numbers of z. latent: gaussian, sphere or uniform (z in [-1, 1], as the paper's figure 1 says). range: of the pictures' values, -1,1 (tanh)
    or 0,1 (sigmoid). conditional: tell both players the class. channels: 3, or 1 for grey pictures. down: how the discriminator halves, stride,
    max or avg. up: how the generator doubles, transpose, bilinear or nearest. norm: batch, instance, layer, group or none, in both;
    discriminator_norm: in the discriminator, "" for the same. activation: of both, "" for the paper's two. Raises UsageError.
    """
    if image_size < 8 or image_size & (image_size - 1):
        raise UsageError(f"image_size={image_size} is no power of two from 8 on", hint="such as 32, 64 or 128")
    if width < 1:
        raise UsageError(f"width={width}: there is one map at least")
    if channels not in (1, 3):
        raise UsageError(f"channels={channels}: pictures have 3, or 1 where they are grey")
    if up not in UPS:
        raise UsageError(f"unknown up-sampling '{up}'", hint="up: " + ", ".join(UPS))
    return DCGAN(
        size=image_size, width=width, noise=noise, conditional=classes if conditional else 0, latent=latent, range=range, channels=channels,
        down=down, up=up, norm=norm, discriminator_norm=discriminator_norm, activation=activation,
    )  # fmt: skip
