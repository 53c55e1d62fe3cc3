"""Inception-ResNet: inception modules whose concatenated branches are added to what they read (Szegedy 2016, arXiv:1602.07261).

Version 2, with the names of timm's inception_resnet_v2, so that its published weights load key for key (`inception-resnet.v2@FILE`, or
`timm:inception_resnet_v2.tf_in1k`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cvtool.batch import Prepare
from cvtool.categories import numbered
from cvtool.checkpoint import prefixed
from cvtool.layers.batch_norm import BatchNorm
from cvtool.layers.classifier import Classifier
from cvtool.layers.head import pool

VARIANTS = {
    "v2": {"depths": (10, 20, 9)},
    "tiny": {"depths": (1, 1, 1), "divide": 8, "image_size": 96},
}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"inception-resnet-v2": "v2", "inception_resnet_v2": "v2"}
RECIPE = {
    "step": "supervised",
    "optimizer": "rmsprop",
    "lr": 0.045,
    "momentum": 0.0,
    "weight_decay": 4e-5,
    "batch_size": 160,
    "epochs": 160,
    "schedule": "exponential",
    "augment": "resized-crop,flip,color",
    "variants": {"tiny": {"optimizer": "adamw", "lr": 3e-3, "weight_decay": 0.01, "batch_size": 8, "schedule": "one-cycle", "augment": "flip"}},
}
Size = int | tuple[int, int]


class Conv(nn.Module):
    """Convolution, batch normalisation, ReLU. valid: without padding, as the stem and the reductions are."""

    def __init__(self, channels: int, width: int, kernel: Size, stride: int = 1, *, valid: bool = False) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.conv = nn.Conv2d(channels, width, sides, stride, (0, 0) if valid else (sides[0] // 2, sides[1] // 2), bias=False)
        self.bn = BatchNorm(width, eps=1e-3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


def chain(channels: int, *layers: tuple[int, Size]) -> nn.Module:
    """Convolutions one after the other, each (width, kernel); a single one stands alone."""
    parts = []
    for width, kernel in layers:
        parts.append(Conv(channels, width, kernel))
        channels = width
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)


class Block(nn.Module):
    """ReLU(x + scale * linear(concat(branches(x)))): the 1x1 without activation brings the branches to the width of the skip (figs. 16, 17, 19).

    scale: section 3.3, small enough that hundreds of maps can be added without the activations dying. last: without the ReLU.
    """

    def __init__(self, channels: int, branches: Sequence[Sequence[tuple[int, Size]]], scale: float, *, last: bool = False) -> None:
        super().__init__()
        for i, layers in enumerate(branches):
            self.add_module(f"branch{i}", chain(channels, *layers))
        self.count, self.scale = len(branches), scale
        self.conv2d = nn.Conv2d(sum(layers[-1][0] for layers in branches), channels, 1)
        self.act = nn.Identity() if last else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        together = torch.cat([self.get_submodule(f"branch{i}")(x) for i in range(self.count)], dim=1)
        return self.act(x + self.scale * self.conv2d(together))


def block_a(channels: int, d: int, scale: float = 0.17) -> Block:
    """A (35 x 35): 1x1 | 1x1, 3x3 | 1x1, 3x3, 3x3."""
    return Block(channels, [[(32 // d, 1)], [(32 // d, 1), (32 // d, 3)], [(32 // d, 1), (48 // d, 3), (64 // d, 3)]], scale)


def block_b(channels: int, d: int, scale: float = 0.1) -> Block:
    """B (17 x 17): 1x1 | 1x1, 1x7, 7x1."""
    return Block(channels, [[(192 // d, 1)], [(128 // d, 1), (160 // d, (1, 7)), (192 // d, (7, 1))]], scale)


def block_c(channels: int, d: int, scale: float = 0.2, *, last: bool = False) -> Block:
    """C (8 x 8): 1x1 | 1x1, 1x3, 3x1."""
    return Block(channels, [[(192 // d, 1)], [(192 // d, 1), (224 // d, (1, 3)), (256 // d, (3, 1))]], scale, last=last)


class Branches(nn.Module):
    """Named branches side by side, concatenated."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.count = len(branches)
        for i, branch in enumerate(branches):
            self.add_module(f"branch{i}", branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.get_submodule(f"branch{i}")(x) for i in range(self.count)], dim=1)


class InceptionResNet(nn.Module):
    """B 3 H W -> logits B K, H and W of at least 75. depths: blocks A, B and C (one more C, without ReLU, ends it). divide: all widths by this."""

    def __init__(self, classes: int, *, depths: tuple[int, ...], divide: int, head: str, dropout: float) -> None:
        super().__init__()
        d = divide
        stem, five, six, seven = 192 // d, 320 // d, 1088 // d, 2080 // d
        self.conv2d_1a = Conv(3, 32 // d, 3, 2, valid=True)
        self.conv2d_2a = Conv(32 // d, 32 // d, 3, valid=True)
        self.conv2d_2b = Conv(32 // d, 64 // d, 3)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = Conv(64 // d, 80 // d, 1)
        self.conv2d_4a = Conv(80 // d, stem, 3, valid=True)
        self.maxpool_5a = nn.MaxPool2d(3, 2)
        average = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.mixed_5b = Branches(
            Conv(stem, 96 // d, 1), chain(stem, (48 // d, 1), (64 // d, 5)), chain(stem, (64 // d, 1), (96 // d, 3), (96 // d, 3)),
            nn.Sequential(average, Conv(stem, 64 // d, 1)),
        )  # fmt: skip
        self.repeat = nn.Sequential(*(block_a(five, d) for _ in range(depths[0])))
        self.mixed_6a = Branches(
            Conv(five, 384 // d, 3, 2, valid=True),
            nn.Sequential(Conv(five, 256 // d, 1), Conv(256 // d, 256 // d, 3), Conv(256 // d, 384 // d, 3, 2, valid=True)),
            nn.MaxPool2d(3, 2),
        )
        self.repeat_1 = nn.Sequential(*(block_b(six, d) for _ in range(depths[1])))
        self.mixed_7a = Branches(
            nn.Sequential(Conv(six, 256 // d, 1), Conv(256 // d, 384 // d, 3, 2, valid=True)),
            nn.Sequential(Conv(six, 256 // d, 1), Conv(256 // d, 288 // d, 3, 2, valid=True)),
            nn.Sequential(Conv(six, 256 // d, 1), Conv(256 // d, 288 // d, 3), Conv(288 // d, 320 // d, 3, 2, valid=True)),
            nn.MaxPool2d(3, 2),
        )
        self.repeat_2 = nn.Sequential(*(block_c(seven, d) for _ in range(depths[2])))
        self.block8 = block_c(seven, d, 1.0, last=True)
        self.conv2d_7b = Conv(seven, 1536 // d, 1)
        self.global_pool, units = pool(head, 1536 // d, (8, 8))
        self.dropout = nn.Dropout(dropout)
        self.classif = nn.Linear(units, classes)

    def pooled(self, images: Tensor) -> Tensor:
        """B 3 H W -> B 1536."""
        x = self.maxpool_3a(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(images))))
        x = self.mixed_5b(self.maxpool_5a(self.conv2d_4a(self.conv2d_3b(x))))  # 299 -> 35
        x = self.mixed_6a(self.repeat(x))  # 17
        x = self.mixed_7a(self.repeat_1(x))  # 8
        return self.global_pool(self.conv2d_7b(self.block8(self.repeat_2(x))))

    def forward(self, images: Tensor) -> Tensor:
        return self.classif(self.dropout(self.pooled(images)))


def build(
    *, classes: int, depths: tuple[int, ...] = (10, 20, 9), divide: int = 1, head: str = "gap", dropout: float = 0.2, image_size: int = 299
) -> Classifier:
    """depths: blocks A, B, C. dropout: the paper keeps 0.8."""
    net = InceptionResNet(classes, depths=tuple(depths), divide=divide, head=head, dropout=dropout)
    fraction = 0.8975 if image_size > 200 else 1.0
    prepare = Prepare(resize="crop", size=image_size, crop_fraction=fraction, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic")
    return Classifier(net, features=InceptionResNet.pooled, prepare=prepare, categories=numbered(classes))


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's file."""
    return prefixed(state, "net")
