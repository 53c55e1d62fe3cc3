"""Wide ResNet: fewer layers with k times the channels, as good as deep ones and faster on a GPU (Zagoruyko 2016, arXiv:1605.07146).

50-2 and 101-2 are ResNets whose 3x3 convolutions are twice as wide, torchvision's modules and names, so that its published weights load key for key.
28-10 and the like are the paper's for pictures of 32 x 32: WRN-d-k with d = 6 n + 4 layers, three stages of n blocks of 16 k, 32 k and 64 k channels,
normalised and activated before each convolution (table 1).
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Prepare
from cvtool.categories import numbered
from cvtool.checkpoint import prefixed
from cvtool.errors import UsageError
from cvtool.layers.batch_norm import BatchNorm
from cvtool.layers.classifier import Classifier
from cvtool.layers.head import pool
from cvtool.layers.stochastic_depth import StochasticDepth
from cvtool.models.classify._residual import ResNet, classifier, known, pooled_by, squeeze

LAYERS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
FORMS = ("imagenet", "cifar")
VARIANTS = {
    "50-2": {"depth": 50, "width": 2},
    "101-2": {"depth": 101, "width": 2},
    "28-10": {"form": "cifar", "depth": 28, "width": 10, "image_size": 32, "crop_fraction": 1.0},
    "40-4": {"form": "cifar", "depth": 40, "width": 4, "image_size": 32, "crop_fraction": 1.0},
    "16-4": {"form": "cifar", "depth": 16, "width": 4, "image_size": 32, "crop_fraction": 1.0},
    "tiny": {"form": "cifar", "depth": 10, "width": 1, "image_size": 32, "crop_fraction": 1.0},
}
WEIGHTS = {
    "50-2@imagenet-v2": {
        "url": "https://download.pytorch.org/models/wide_resnet50_2-9ba9bcbe.pth",
        "sha256": "9ba9bcbe",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.81602, "top5": 0.95758},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "50-2@imagenet": {
        "url": "https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth",
        "sha256": "95faca4d",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.78468, "top5": 0.94086},
    },
    "101-2@imagenet-v2": {
        "url": "https://download.pytorch.org/models/wide_resnet101_2-d733dc28.pth",
        "sha256": "d733dc28",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.8251, "top5": 0.9602},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "101-2@imagenet": {
        "url": "https://download.pytorch.org/models/wide_resnet101_2-32ee1156.pth",
        "sha256": "32ee1156",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.78848, "top5": 0.94284},
    },
}
ALIASES = {
    "wide-resnet50-2": "50-2",
    "wide_resnet50_2": "50-2",
    "wide-resnet101-2": "101-2",
    "wide_resnet101_2": "101-2",
    "wrn-50-2": "50-2",
    "wrn-28-10": "28-10",
    "wrn28_10": "28-10",
    "wrn-40-4": "40-4",
    "wrn-16-4": "16-4",
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
        "28-10": {"weight_decay": 5e-4, "batch_size": 128, "epochs": 200, "schedule": "cosine", "augment": "flip,shift:4", "channels_last": True},
        "40-4": {"weight_decay": 5e-4, "batch_size": 128, "epochs": 200, "schedule": "cosine", "augment": "flip,shift:4", "channels_last": True},
        "16-4": {"weight_decay": 5e-4, "batch_size": 128, "epochs": 200, "schedule": "cosine", "augment": "flip,shift:4", "channels_last": True},
        "tiny": {"optimizer": "adamw", "lr": 1e-2, "weight_decay": 0.01, "batch_size": 8, "epochs": 20, "schedule": "one-cycle", "augment": "flip"},
    },
}


class PreActivation(nn.Module):
    """y = x + conv(dropout(ReLU(BN(conv(ReLU(BN(x))))))) (fig. 1 d); where the shape changes the shortcut is a 1x1 convolution of the activated x."""

    def __init__(self, channels: int, wanted: int, *, stride: int) -> None:
        super().__init__()
        self.bn1 = BatchNorm(channels)
        self.conv1 = nn.Conv2d(channels, wanted, 3, stride, 1, bias=False)
        self.bn2 = BatchNorm(wanted)
        self.dropout = nn.Dropout(0.0)  # the paper's 0.3 is `--dropout 0.3`
        self.conv2 = nn.Conv2d(wanted, wanted, 3, 1, 1, bias=False)
        self.drop_path = StochasticDepth(0.0)
        self.shortcut = nn.Conv2d(channels, wanted, 1, stride, bias=False) if stride > 1 or channels != wanted else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        y = self.conv2(self.dropout(F.relu(self.bn2(self.conv1(active)))))
        return self.drop_path(y) + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-`depth`-`width`. forward: B 3 H W -> logits B K."""

    def __init__(self, classes: int, *, depth: int, width: int, head: str = "gap") -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1 or width < 1:
            raise UsageError(f"WRN-{depth}-{width}: the depth is 6 n + 4 and the width 1 or more", hint="such as depth 28 and width 10")
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        channels, stages = 16, []
        for i, wanted in enumerate((16 * width, 32 * width, 64 * width)):
            stage = nn.Sequential()
            for j in range(blocks):
                stage.append(PreActivation(channels, wanted, stride=2 if i and not j else 1))
                channels = wanted
            stages.append(stage)
        self.layer1, self.layer2, self.layer3 = stages
        self.bn = BatchNorm(channels)
        self.pool, units = pool(head, channels)
        self.fc = nn.Linear(units, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, images: Tensor) -> Tensor:
        """B 3 H W -> B 64 k."""
        return self.pool(F.relu(self.bn(self.layer3(self.layer2(self.layer1(self.conv1(images)))))))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images))


def pooled(net: Any, images: Tensor) -> Tensor:
    """B 3 H W -> B F."""
    return net.features(images)


def build(
    *, classes: int, form: str = "imagenet", depth: int = 50, width: int = 2, se_ratio: int = 0, head: str = "gap", image_size: int = 224,
    crop_fraction: float = 0.875,
) -> Classifier:  # fmt: skip
    """form: imagenet (bottlenecks, depth 50 or 101) or cifar (WRN-depth-width). width: k. se_ratio: of the bottlenecks, 0 = none.

    head: gap or spp. Raises UsageError.
    """
    known("form", form, FORMS)
    if form == "cifar":
        if se_ratio:
            raise UsageError("se_ratio has no effect on the pre-activated blocks of WRN-d-k", hint="it goes with wide-resnet.50-2")
        net = WideResNet(classes, depth=depth, width=width, head=head)
        prepare = Prepare(resize="crop", size=image_size, crop_fraction=crop_fraction)
        return Classifier(net, features=pooled, prepare=prepare, categories=numbered(classes))
    if depth not in LAYERS or width < 1:
        raise UsageError(f"a wide ResNet of bottlenecks has 50 or 101 layers and a width of 1 or more, not {depth} and {width}")
    wide = ResNet("bottleneck", LAYERS[depth], classes=classes, width_per_group=64 * width)
    squeeze(wide, se_ratio)
    pooled_by(wide, head, image_size)
    return classifier(wide, image_size=image_size, crop_fraction=crop_fraction)


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's file."""
    return prefixed(state, "net")
