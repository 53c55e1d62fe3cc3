"""Residual networks of torchvision's blocks under torchvision's names, at any width and depth, and the ways in which their papers differ."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Prepare
from cvtool.categories import numbered
from cvtool.errors import UsageError, did_you_mean
from cvtool.layers.batch_norm import BatchNorm
from cvtool.layers.classifier import Classifier
from cvtool.layers.head import pool
from cvtool.layers.squeeze_excitation import SqueezeExcitation
from cvtool.layers.stochastic_depth import StochasticDepth
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models import resnet as tv

STEMS = {"7x7": 4, "3x3": 1}  # name -> stride
STRIDES_IN = ("3x3", "1x1")


class BasicBlock(tv.BasicBlock):
    """y = ReLU(F(x) + x), F two 3x3 convolutions (He 2015, arXiv:1512.03385, eq. 1 and fig. 5 left): the sum stands before the last ReLU.

    F may end in a squeeze-and-excitation (Hu 2017, arXiv:1709.01507, fig. 3) and be dropped at random (Huang 2016, arXiv:1603.09382, eq. 2).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.se: nn.Module = nn.Identity()
        self.drop_path = StochasticDepth(0.0)

    def branch(self, x: Tensor) -> Tensor:
        """F: B C H W -> B C' H' W'."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.se(self.bn2(self.conv2(x)))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.drop_path(self.branch(x))
        y += shortcut
        return self.relu(y)


class PlainBlock(BasicBlock):
    """The same layers without the shortcut: y = ReLU(F(x)), the paper's plain network (fig. 3 middle)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.downsample = None
        del self.drop_path  # without a shortcut there would be nothing left

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.branch(x))


class Bottleneck(tv.Bottleneck):
    """y = ReLU(F(x) + x), F = 1x1 to a quarter of the channels, 3x3, 1x1 back (fig. 5 right); C = 4 `planes`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.se: nn.Module = nn.Identity()
        self.drop_path = StochasticDepth(0.0)

    def branch(self, x: Tensor) -> Tensor:
        """F: B C H W -> B C' H' W'."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.se(self.bn3(self.conv3(x)))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.drop_path(self.branch(x))
        y += shortcut
        return self.relu(y)


BLOCKS: dict[str, type[BasicBlock | Bottleneck]] = {"basic": BasicBlock, "plain": PlainBlock, "bottleneck": Bottleneck}


class Subsample(nn.Module):
    """The shortcut without parameters, option A of section 4.1: every `stride`-th pixel, and zeros for half of the new channels on either side."""

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))


class ResNet(nn.Module):
    """Stem, stages of blocks, pooling, one linear layer. Each stage but the first halves the map in its first block.

    block: a name in `BLOCKS`. layers: blocks a stage. widths: their `planes`. stem: "7x7" (stride 2, then a max-pooling: ImageNet's) or "3x3"
    (stride 1: CIFAR's). projection: the shortcut has a 1x1 convolution where the shape changes (option B), else it is padded with zeros
    (option A). groups, width_per_group: of a bottleneck's 3x3 (ResNeXt's G and d; Wide ResNet's 64 k).
    forward: B 3 H W -> logits B K.
    """

    def __init__(
        self,
        block: str,
        layers: tuple[int, ...],
        *,
        classes: int,
        widths: tuple[int, ...] = (64, 128, 256, 512),
        stem: str = "7x7",
        projection: bool = True,
        groups: int = 1,
        width_per_group: int = 64,
    ) -> None:
        super().__init__()
        known("block", block, BLOCKS)
        known("stem", stem, STEMS)
        if len(layers) != len(widths) or any(type(count) is not int or count < 1 for count in (*layers, *widths)):
            raise UsageError(f"layers {layers} and widths {widths} are a whole number from 1 up for each stage")
        kind, channels = BLOCKS[block], widths[0]
        large = stem == "7x7"
        self.conv1 = nn.Conv2d(3, channels, 7 if large else 3, 2 if large else 1, 3 if large else 1, bias=False)
        self.bn1 = BatchNorm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.stages = [f"layer{i}" for i in range(1, len(layers) + 1)]
        for i, (name, count, planes) in enumerate(zip(self.stages, layers, widths, strict=True)):
            stage = nn.Sequential()
            for j in range(count):
                stride, wanted = 2 if i and not j else 1, planes * kind.expansion
                shortcut = _shortcut(channels, wanted, stride, projection) if stride > 1 or channels != wanted else None
                stage.append(kind(channels, planes, stride, shortcut, groups, width_per_group, norm_layer=BatchNorm))
                channels = wanted
            self.add_module(name, stage)
        self.stride = STEMS[stem] * 2 ** (len(layers) - 1)
        self.channels = channels
        self.avgpool: nn.Module = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, x: Tensor) -> list[Tensor]:
        """B 3 H W -> each stage's last map, shallow to deep."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        found = []
        for name in self.stages:
            x = getattr(self, name)(x)
            found.append(x)
        return found

    def features(self, x: Tensor) -> Tensor:
        """B 3 H W -> B F, what the linear layer reads."""
        return self.avgpool(self.maps(x)[-1]).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))

    def blocks(self) -> list[BasicBlock | Bottleneck]:
        """Every block, shallow to deep."""
        return [block for name in self.stages for block in getattr(self, name)]


def _shortcut(channels: int, wanted: int, stride: int, projection: bool) -> nn.Module:
    if not projection:
        return Subsample(wanted - channels, stride)
    return nn.Sequential(nn.Conv2d(channels, wanted, 1, stride, bias=False), BatchNorm(wanted))


def stride_in(net: ResNet, place: str) -> None:
    """Where a bottleneck halves the map: in its 3x3 (torchvision's weights, "v1.5") or in its first 1x1 (the paper). Raises UsageError."""
    known("stride_in", place, STRIDES_IN)
    if place == "3x3":
        return
    blocks = [block for block in net.blocks() if isinstance(block, Bottleneck)]
    if not blocks:
        raise UsageError("stride_in has no effect: basic blocks have no 1x1 convolutions", hint="it goes with the bottlenecks of resnet50 and up")
    for block in blocks:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def squeeze(net: ResNet, ratio: int) -> None:
    """A squeeze-and-excitation at the end of each branch, its hidden layer 1 / `ratio` of the channels; 0 leaves the net as it is."""
    if ratio < 0:
        raise UsageError(f"se_ratio is 0 (none) or how many channels share a hidden unit, not {ratio}", hint="--se-ratio 16")
    if ratio:
        for block in net.blocks():
            last = block.conv3 if isinstance(block, Bottleneck) else block.conv2
            block.se = SqueezeExcitation(last.out_channels, ratio=ratio)


def begin_as_identity(net: ResNet) -> None:
    """The last norm of each branch scales by zero at first, so that a block begins as ReLU(x) (Goyal 2017, arXiv:1706.02677, section 5.1)."""
    for block in net.blocks():
        if isinstance(block, PlainBlock):
            raise UsageError("zero_init has no sense without shortcuts: every block would answer zero")
        nn.init.zeros_((block.bn3 if isinstance(block, Bottleneck) else block.bn2).weight)


def pooled_by(net: ResNet, name: str, image_size: int) -> None:
    """`--head gap|spp|flatten`: how the last map becomes a vector. flatten is for pictures of `image_size` and no other."""
    if name == "gap":
        return
    side = math.ceil(image_size / net.stride)
    net.avgpool, features = pool(name, net.channels, (side, side))
    net.fc = nn.Linear(features, net.fc.out_features)


def pooled(net: Any, images: Tensor) -> Tensor:
    """B 3 H W -> B F, of a `ResNet`."""
    return net.features(images)


def classifier(net: ResNet, *, image_size: int, crop_fraction: float, interpolation: str = "bilinear") -> Classifier:
    """The net behind the contract of classifiers; the shorter edge is scaled to `image_size / crop_fraction`, and the centre cut out."""
    prepare = Prepare(resize="crop", size=image_size, crop_fraction=crop_fraction, interpolation=interpolation)  # type: ignore[arg-type]
    return Classifier(net, features=pooled, prepare=prepare, categories=numbered(net.fc.out_features))


def known(name: str, value: str, names: Iterable[str]) -> None:
    """Raises UsageError for a value that is none of `names`."""
    if value not in names:
        raise UsageError(f"unknown {name} '{value}'", hint=did_you_mean(value, names) or f"it is one of: {', '.join(names)}")
