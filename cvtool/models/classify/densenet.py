"""DenseNet: each layer reads the maps of all layers before it in its block (Huang 2016, arXiv:1608.06993).

torchvision's modules under torchvision's names, so that its published weights load key for key. bc-100 is the paper's for pictures of 32 x 32: three
blocks of (depth - 4) / 6 layers, growth 12, no pooling in the stem (section 4.2).
"""

from __future__ import annotations

import re
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Prepare
from cvtool.categories import numbered
from cvtool.checkpoint import prefixed, with_versions
from cvtool.errors import UsageError
from cvtool.layers.classifier import Classifier
from cvtool.layers.head import pool
from cvtool.models.classify._residual import STEMS, known
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models import DenseNet

VARIANTS = {
    "121": {"layers": (6, 12, 24, 16)},
    "161": {"layers": (6, 12, 36, 24), "growth": 48, "width": 96},
    "169": {"layers": (6, 12, 32, 32)},
    "201": {"layers": (6, 12, 48, 32)},
    "bc-100": {"layers": (16, 16, 16), "growth": 12, "width": 24, "stem": "3x3", "image_size": 32, "crop_fraction": 1.0},
    "tiny": {"layers": (2, 2, 2), "growth": 8, "width": 16, "stem": "3x3", "image_size": 32, "crop_fraction": 1.0},
}
WEIGHTS = {
    "121@imagenet": {
        "url": "https://download.pytorch.org/models/densenet121-a639ec97.pth",
        "sha256": "a639ec97",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.74434, "top5": 0.91972},
    },
    "161@imagenet": {
        "url": "https://download.pytorch.org/models/densenet161-8d451a50.pth",
        "sha256": "8d451a50",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.77138, "top5": 0.9356},
    },
    "169@imagenet": {
        "url": "https://download.pytorch.org/models/densenet169-b2777c0a.pth",
        "sha256": "b2777c0a",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.756, "top5": 0.92806},
    },
    "201@imagenet": {
        "url": "https://download.pytorch.org/models/densenet201-c1103571.pth",
        "sha256": "c1103571",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.76896, "top5": 0.9337},
    },
}
ALIASES = {
    "densenet121": "121",
    "densenet-121": "121",
    "densenet161": "161",
    "densenet169": "169",
    "densenet201": "201",
    "densenet-bc-100-12": "bc-100",
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
        "bc-100": {"batch_size": 64, "epochs": 300, "augment": "flip,shift:4", "channels_last": True},
        "tiny": {"optimizer": "adamw", "lr": 1e-2, "weight_decay": 0.01, "batch_size": 8, "epochs": 20, "schedule": "one-cycle", "augment": "flip"},
    },
}


class Net(DenseNet):
    """torchvision's, whose last map is made a vector by name (`--head`). forward: B 3 H W -> logits B K."""

    def __init__(self, growth: int, layers: tuple[int, ...], width: int, *, classes: int, head: str) -> None:
        super().__init__(growth, layers, width, num_classes=classes)  # type: ignore[arg-type]
        last: nn.Linear = self.get_submodule("classifier")  # type: ignore[assignment]
        self.pool, units = pool(head, last.in_features)
        if units != last.in_features:
            self.classifier = nn.Linear(units, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(pooled(self, x))


def pooled(net: Any, images: Tensor) -> Tensor:
    """B 3 H W -> B F."""
    return net.pool(F.relu(net.features(images), inplace=True))


def build(
    *,
    classes: int,
    layers: tuple[int, ...] = (6, 12, 24, 16),
    growth: int = 32,
    width: int = 64,
    stem: str = "7x7",
    head: str = "gap",
    image_size: int = 224,
    crop_fraction: float = 0.875,
) -> Classifier:
    """layers: of each block. growth: k, the maps that a layer adds. width: channels of the stem. stem: 7x7 and a max-pooling, or 3x3 at full size.

    head: gap or spp. Between blocks a 1x1 convolution halves the channels and a 2x2 mean the map. Raises UsageError.
    """
    known("stem", stem, STEMS)
    if any(type(value) is not int or value < 1 for value in (*layers, growth, width)):
        raise UsageError(f"layers {tuple(layers)}, growth {growth} and width {width} are whole numbers from 1 up")
    net = Net(growth, tuple(layers), width, classes=classes, head=head)
    if stem == "3x3":
        net.features.conv0 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        nn.init.kaiming_normal_(net.features.conv0.weight)
        for name in ("norm0", "relu0", "pool0"):  # the first layer begins with a norm of its own
            delattr(net.features, name)
    prepare = Prepare(resize="crop", size=image_size, crop_fraction=crop_fraction)
    return Classifier(net, features=pooled, prepare=prepare, categories=numbered(classes))


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's file; the published ones spell `norm.1` for `norm1`."""
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
    kept = {old.sub(r"\1\2.", key): value for key, value in state.items()}
    return prefixed(with_versions(kept, getattr(state, "_metadata", None)), "net")
