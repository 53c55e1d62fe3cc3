"""DarkNet: residual pairs of 1x1 and 3x3 convolutions, halved in size by strides alone: YOLOv3's backbone (Redmon 2018, arXiv:1804.02767).

The tensors are called as in timm's darknet53, so that its published weights load key for key; those were trained with a slope of 0.01 where the
original has 0.1 (`slope`), so that they are best asked for as `timm:darknet53.c2ns_in1k`.
"""

from __future__ import annotations

from torch import Tensor, nn

from cvtool.batch import Prepare
from cvtool.categories import numbered
from cvtool.checkpoint import prefixed
from cvtool.layers.batch_norm import BatchNorm
from cvtool.layers.classifier import Classifier
from cvtool.layers.head import pool

VARIANTS = {
    "53": {"depths": (1, 2, 8, 8, 4)},
    "tiny": {"depths": (1, 1, 1), "width": 8, "image_size": 64},
}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"darknet53": "53", "darknet-53": "53"}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "batch_size": 128,
    "epochs": 90,
    "schedule": "poly:4",
    "augment": "resized-crop,flip,color",
    "variants": {"tiny": {"optimizer": "adamw", "lr": 3e-3, "weight_decay": 0.01, "batch_size": 8, "schedule": "one-cycle", "augment": "flip"}},
}


class Conv(nn.Module):
    """Convolution, batch normalisation, leaky ReLU."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1, *, slope: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn = BatchNorm(width)
        self.act = nn.LeakyReLU(slope, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Residual(nn.Module):
    """x + 3x3(1x1(x)), the 1x1 to half of the channels; nothing after the sum (table 1)."""

    def __init__(self, channels: int, slope: float) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels // 2, 1, slope=slope)
        self.conv2 = Conv(channels // 2, channels, 3, slope=slope)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))


class Stage(nn.Module):
    """A 3x3 of stride 2 that doubles the channels, then residual pairs."""

    def __init__(self, channels: int, depth: int, slope: float) -> None:
        super().__init__()
        self.conv_down = Conv(channels, 2 * channels, 3, stride=2, slope=slope)
        self.blocks = nn.Sequential(*(Residual(2 * channels, slope) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.conv_down(x))


class DarkNet(nn.Module):
    """B 3 H W -> logits B K; `maps` gives the features for a detector. depths: residual pairs a stage (53 layers: 1 2 8 8 4)."""

    def __init__(self, classes: int, *, depths: tuple[int, ...], width: int, head: str, slope: float) -> None:
        super().__init__()
        self.stem = nn.Sequential()
        self.stem.add_module("conv1", Conv(3, width, 3, slope=slope))
        self.stages = nn.Sequential(*(Stage(width << i, depth, slope) for i, depth in enumerate(depths)))
        self.head = nn.Module()
        self.head.pool, units = pool(head, width << len(depths), (7, 7))
        self.head.fc = nn.Linear(units, classes)

    def maps(self, images: Tensor) -> list[Tensor]:
        """B 3 H W -> the map of each stage; the last three lie at strides 8, 16 and 32 where there are five stages."""
        x, found = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def pooled(self, images: Tensor) -> Tensor:
        """B 3 H W -> B 1024."""
        return self.head.pool(self.maps(images)[-1])  # type: ignore[operator]

    def forward(self, images: Tensor) -> Tensor:
        return self.head.fc(self.pooled(images))  # type: ignore[operator]


def build(
    *, classes: int, depths: tuple[int, ...] = (1, 2, 8, 8, 4), width: int = 32, head: str = "gap", slope: float = 0.1, image_size: int = 256
) -> Classifier:
    """width: maps of the first layer; each stage doubles them. slope: of the leaky ReLU below zero."""
    net = DarkNet(classes, depths=tuple(depths), width=width, head=head, slope=slope)
    prepare = Prepare(resize="crop", size=image_size, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Classifier(net, features=DarkNet.pooled, prepare=prepare, categories=numbered(classes))


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's file."""
    return prefixed(state, "net")
