"""Partial convolution: a U-Net that looks at known pixels alone, while its mask closes layer by layer (Liu 2018, arXiv:1804.07723).

All convolutions are partial (`layers/partial_conv.py`). Kernels of the encoder: 7, 5, 5, then 3, each of stride 2; the decoder repeats each pixel
(nearest), joins the maps and masks of the encoder, the picture and its mask at last, and convolves 3 x 3 with LeakyReLU 0.2. Batch normalisation
stands behind all but the first and the last (table 1). The paper's mask is 1 where pixels are known: it is 1 - M of the program's, turned
at the entrance. Lost are the six terms of `losses/irregular_holes.py`, by the maps of a network that is trained already:

    cvtool train -m partial-conv --data photos/                            # needs the weights of vgg16
    cvtool train -m partial-conv --data photos/ --net vgg.tiny@none        # of a small network with random weights: offline, rougher
    cvtool inpaint photo.jpg --mask hole.png -m runs/0001 -o clean.jpg
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Prepare
from cvtool.errors import UsageError
from cvtool.layers.features import shared
from cvtool.layers.partial_conv import PartialConv
from cvtool.losses.irregular_holes import LAYERS, irregular_holes
from cvtool.models.inpaint._filler import Filler

VARIANTS = {
    "base": {"image_size": 256, "width": 64, "depth": 8},
    "small": {"image_size": 128, "width": 16, "depth": 6},
    "tiny": {"image_size": 32, "width": 8, "depth": 3, "net": "vgg.tiny@none"},
}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"pconv": "base"}
RECIPE = {
    "step": "inpainting",
    "optimizer": "adam",
    "lr": 2e-4,
    "weight_decay": 0.0,
    "batch_size": 6,
    "epochs": 100,
    "schedule": "constant",
    "augment": "resized-crop:0.3,flip",
}
WIDEST = 8  # times the first layer's maps


class Stage(nn.Module):
    """A partial convolution, its normalisation and its activation: (B C H W, its mask) -> (B C' h w, its mask)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, *, norm: bool, active: nn.Module) -> None:
        super().__init__()
        self.conv = PartialConv(inputs, outputs, kernel, stride, bias=not norm)
        self.norm = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.active = active

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x, mask = self.conv(x, mask)
        return self.active(self.norm(x)), mask


class UNet(nn.Module):
    """depth: halvings. Pictures B 3 H W, whose sides 2^depth divides, and their mask B 1 H W of 1 = known -> B 3 H W and the mask at the end."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        widths = [3, *(min(width << i, WIDEST * width) for i in range(depth))]
        kernels = [7, 5, 5, *[3] * depth][:depth]
        self.down = nn.ModuleList(Stage(widths[i], widths[i + 1], kernels[i], 2, norm=i > 0, active=nn.ReLU()) for i in range(depth))
        self.up = nn.ModuleList(
            Stage(widths[i + 1] + widths[i], widths[i], 3, 1, norm=i > 0, active=nn.LeakyReLU(0.2) if i else nn.Identity()) for i in range(depth)
        )

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        kept = []
        for stage in self.down:
            kept.append((x, mask))
            x, mask = stage(x, mask)
        for stage, (skip, known) in zip(reversed(self.up), reversed(kept), strict=True):
            x, mask = (F.interpolate(maps, scale_factor=2, mode="nearest") for maps in (x, mask))
            masks = torch.cat([mask.expand(-1, x.shape[1], -1, -1), known.expand(-1, skip.shape[1], -1, -1)], 1)
            x, mask = stage(torch.cat([x, skip.to(x)], 1), masks)
        return x, mask


class PartialConvUNet(Filler):
    """The words are those of `build`. It has no rival, and `form` and `share` mean nothing."""

    def __init__(self, *, size: int, width: int, depth: int, net: str) -> None:
        super().__init__()
        self.size, self.net = size, net
        self.prepare = Prepare(resize="crop", size=size, mean=(0.0,) * 3, std=(1.0,) * 3)
        self.generator, self.discriminator = UNet(width, depth), None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def ready(self, *, offline: bool = False) -> None:
        """Load the network that the losses compare by. Raises ModelError, UsageError."""
        features = shared(self.net, offline=offline)
        for name in LAYERS:
            features.module(name)

    def reconstruct(self, images: Tensor, told: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The six terms; of the pictures, the hole's pixels are not looked at."""
        made, _ = self.generator(images, 1 - told)
        made, hole = made.float(), told > 0
        return torch.where(hole, made, images), irregular_holes(made, images, hole, features=shared(self.net))

    @torch.no_grad()
    def fill(self, images: Tensor, masks: Tensor) -> Tensor:
        """B 3 H W in [0, 1] and masks B 1 H W bool, True = hole -> B 3 H W in [0, 1]."""
        made, _ = self.generator(images, 1 - masks.to(images))
        return made.float().clamp(0, 1)


def build(*, classes: int = 0, image_size: int = 256, width: int = 64, depth: int = 8, net: str = "vgg16") -> PartialConvUNet:
    """image_size: side of the squares that it learns from and fills, which 2^depth divides. width: maps of the first layer, doubled in each up to
    eightfold. depth: halvings. net: the classifier by whose maps pool1, pool2 and pool3 pictures are compared. Raises UsageError."""
    if depth < 1 or width < 1 or image_size < 1 or image_size % (1 << depth):
        raise UsageError(f"{image_size} pixels cannot be halved {depth} times", hint=f"an image_size that {1 << max(1, depth)} divides")
    return PartialConvUNet(size=image_size, width=width, depth=depth, net=net)
