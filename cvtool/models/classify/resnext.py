"""ResNeXt: a bottleneck split into G narrow branches that are summed, which is one grouped convolution (Xie 2016, arXiv:1611.05431).

torchvision's blocks under torchvision's names, so that its published weights load key for key. `--form branch` is the block as fig. 3a draws it, G
branches of d channels; `--form grouped` (fig. 3c) computes the same with three convolutions, and is what trains fast.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cvtool.checkpoint import prefixed
from cvtool.errors import UsageError
from cvtool.layers.classifier import Classifier
from cvtool.models.classify._residual import Bottleneck, ResNet, classifier, known, pooled_by, squeeze
from cvtool.models.classify._residual import stride_in as strides

FORMS = ("grouped", "branch")
VARIANTS = {
    "50-32x4d": {"layers": (3, 4, 6, 3), "groups": 32, "width": "4"},
    "101-32x8d": {"layers": (3, 4, 23, 3), "groups": 32, "width": "8"},
    "101-64x4d": {"layers": (3, 4, 23, 3), "groups": 64, "width": "4"},
    "tiny": {"layers": (1, 1, 1), "widths": (8, 16, 32), "stem": "3x3", "groups": 4, "width": "4", "image_size": 32, "crop_fraction": 1.0},
}
WEIGHTS = {
    "50-32x4d@imagenet-v2": {
        "url": "https://download.pytorch.org/models/resnext50_32x4d-1a0047aa.pth",
        "sha256": "1a0047aa",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.81198, "top5": 0.9534},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "50-32x4d@imagenet": {
        "url": "https://download.pytorch.org/models/resnext50_32x4d-7cdf4587.pth",
        "sha256": "7cdf4587",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.77618, "top5": 0.93698},
    },
    "101-32x8d@imagenet-v2": {
        "url": "https://download.pytorch.org/models/resnext101_32x8d-110c445d.pth",
        "sha256": "110c445d",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.82834, "top5": 0.96228},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "101-32x8d@imagenet": {
        "url": "https://download.pytorch.org/models/resnext101_32x8d-8ba56ff5.pth",
        "sha256": "8ba56ff5",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.79312, "top5": 0.94526},
    },
    "101-64x4d@imagenet": {
        "url": "https://download.pytorch.org/models/resnext101_64x4d-173b62eb.pth",
        "sha256": "173b62eb",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.83246, "top5": 0.96454},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
}
ALIASES = {
    "resnext50": "50-32x4d",
    "resnext-50": "50-32x4d",
    "resnext50_32x4d": "50-32x4d",
    "resnext101": "101-32x8d",
    "resnext-101": "101-32x8d",
    "resnext101_32x8d": "101-32x8d",
    "resnext101_64x4d": "101-64x4d",
}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 0.1,
    "weight_decay": 1e-4,
    "batch_size": 256,
    "epochs": 90,
    "schedule": "step",
    "augment": "resized-crop,flip",
    "variants": {
        "tiny": {"optimizer": "adamw", "lr": 1e-2, "weight_decay": 0.01, "batch_size": 8, "epochs": 20, "schedule": "one-cycle", "augment": "flip"},
    },
}


class Branches(nn.Module):
    """y = ReLU(sum over G of T_i(x) + x), T_i = 1x1 to d, 3x3, 1x1 back (eq. 2 and fig. 3 a), with the weights of a grouped bottleneck.

    Output channel c of the last 1x1 is a sum over all G d channels, which is the sum over the branches of theirs: `BN` comes after it.
    """

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        groups = block.conv2.groups
        self.branches = nn.ModuleList()
        for conv1, bn1, conv2, bn2, conv3 in zip(
            _rows(block.conv1, groups), _channels(block.bn1, groups), _rows(block.conv2, groups), _channels(block.bn2, groups),
            _columns(block.conv3, groups), strict=True,
        ):  # fmt: skip
            self.branches.append(nn.Sequential(conv1, bn1, nn.ReLU(inplace=True), conv2, bn2, nn.ReLU(inplace=True), conv3))
        self.bn3, self.se, self.drop_path, self.downsample, self.relu = block.bn3, block.se, block.drop_path, block.downsample, block.relu

    def forward(self, x: Tensor) -> Tensor:
        y = torch.stack([branch(x) for branch in self.branches]).sum(0)
        y = self.drop_path(self.se(self.bn3(y)))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def _part(conv: nn.Conv2d, weight: Tensor) -> nn.Conv2d:
    """A convolution like `conv` without groups, of these weights."""
    outputs, inputs = weight.shape[:2]
    part = nn.Conv2d(inputs, outputs, conv.kernel_size, conv.stride, conv.padding, bias=False)  # type: ignore[arg-type]
    part.weight = nn.Parameter(weight.detach().clone())
    return part


def _rows(conv: nn.Conv2d, groups: int) -> list[nn.Conv2d]:
    """G convolutions, each with its share of the outputs: of a grouped convolution, its groups."""
    return [_part(conv, weight) for weight in conv.weight.chunk(groups, 0)]


def _columns(conv: nn.Conv2d, groups: int) -> list[nn.Conv2d]:
    """G convolutions, each reading its share of the inputs."""
    return [_part(conv, weight) for weight in conv.weight.chunk(groups, 1)]


def _channels(norm: nn.BatchNorm2d, groups: int) -> list[nn.BatchNorm2d]:
    """G norms, each with its share of the channels."""
    parts = []
    split = {key: value.chunk(groups) for key, value in norm.state_dict().items() if value.ndim}
    for i in range(groups):
        part = type(norm)(norm.num_features // groups, eps=norm.eps, momentum=norm.momentum)
        part.load_state_dict({key: values[i] for key, values in split.items()}, strict=False)
        parts.append(part)
    return parts


def branched(net: ResNet) -> None:
    """Every block in its branch form, with the weights that it has."""
    for name in net.stages:
        stage = getattr(net, name)
        for i, block in enumerate(stage):
            stage[i] = Branches(block)


def matched_width(groups: int, *, channels: int = 256, width: int = 64) -> int:
    """d such that G branches of d channels cost what a bottleneck of `width` does (section 3.1): G (2 C d + 9 d^2) = 2 C w + 9 w^2.

    For a ResNet's C = 256 and w = 64 it is 64, 40, 24, 14 and 4 at G = 1, 2, 4, 8 and 32: the paper's table 2.
    """
    if groups < 1:
        raise UsageError(f"groups is 1 or more, not {groups}")
    a, b, c = 9 * groups, 2 * channels * groups, -(2 * channels * width + 9 * width**2)
    return max(1, round((math.sqrt(b * b - 4 * a * c) - b) / (2 * a)))


def build(
    *,
    classes: int,
    layers: tuple[int, ...] = (3, 4, 6, 3),
    widths: tuple[int, ...] = (64, 128, 256, 512),
    stem: str = "7x7",
    groups: int = 32,
    width: str = "4",
    form: str = "grouped",
    stride_in: str = "3x3",
    se_ratio: int = 0,
    head: str = "gap",
    image_size: int = 224,
    crop_fraction: float = 0.875,
) -> Classifier:
    """groups: G, the branches of a block. width: d, the channels of a branch in the first stage, or `auto`: what makes the block cost as much as
    ResNet's. form: grouped or branch. se_ratio: channels a hidden unit of a squeeze-and-excitation in every block, 0 = none. layers, widths, stem,
    stride_in, head, image_size, crop_fraction: as for `resnet`. Raises UsageError.
    """
    known("form", form, FORMS)
    if width != "auto" and (not width.isdecimal() or int(width) < 1):
        raise UsageError(f"width is a whole number from 1 up or auto, not '{width}'")
    if groups < 1:
        raise UsageError(f"groups is 1 or more, not {groups}")
    own = matched_width(groups, channels=4 * widths[0], width=widths[0]) if width == "auto" else int(width)
    # torchvision's width is that of 64 planes; it is asked of the first stage whatever its planes
    net = ResNet("bottleneck", tuple(layers), classes=classes, widths=tuple(widths), stem=stem, groups=groups, width_per_group=own * 64 // widths[0])
    strides(net, stride_in)
    squeeze(net, se_ratio)
    pooled_by(net, head, image_size)
    if form == "branch":
        branched(net)
    return classifier(net, image_size=image_size, crop_fraction=crop_fraction)


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's file, for the grouped form."""
    return prefixed(state, "net")
