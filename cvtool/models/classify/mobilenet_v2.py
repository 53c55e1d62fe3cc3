"""MobileNetV2: blocks that widen, filter each channel and narrow again without activation (Sandler 2018, arXiv:1801.04381).

torchvision's modules under torchvision's names, so that its published weights load key for key. The numbers of the variants are hundredths of the
width. No activation follows a block's last 1x1: between blocks the map is linear, narrow, and nothing of it is cut off.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from cvtool.batch import Prepare
from cvtool.categories import numbered
from cvtool.checkpoint import prefixed
from cvtool.errors import UsageError
from cvtool.layers.batch_norm import BatchNorm
from cvtool.layers.classifier import Classifier
from cvtool.layers.head import pool
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models import MobileNetV2

# table 2: t (factor of the widening), c (channels), n (blocks), s (stride of the first)
TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
VARIANTS = {
    "100": {"width": 1.0},
    "140": {"width": 1.4},
    "075": {"width": 0.75},
    "050": {"width": 0.5},
    "tiny": {"width": 0.25, "table": ((1, 32, 1, 1), (4, 64, 2, 2), (4, 96, 1, 1)), "norm_momentum": 0.3, "image_size": 32, "crop_fraction": 1.0},
}
WEIGHTS = {
    "100@imagenet-v2": {
        "url": "https://download.pytorch.org/models/mobilenet_v2-7ebf99e0.pth",
        "sha256": "7ebf99e0",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.72154, "top5": 0.90822},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "100@imagenet": {
        "url": "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
        "sha256": "b0353104",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.71878, "top5": 0.90286},
    },
}
ALIASES = {"mobilenetv2": "100", "mobilenetv2_100": "100", "mobilenetv2_140": "140", "mobilenetv2_075": "075", "mobilenetv2_050": "050"}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 0.1,
    "weight_decay": 4e-5,
    "batch_size": 256,
    "epochs": 300,
    "schedule": "cosine",
    "augment": "resized-crop,flip",
    "variants": {
        "tiny": {"optimizer": "adamw", "lr": 1e-2, "weight_decay": 0.01, "batch_size": 8, "epochs": 20, "schedule": "one-cycle", "augment": "flip"},
    },
}


class Net(MobileNetV2):
    """torchvision's, whose last map is made a vector by name (`--head`). forward: B 3 H W -> logits B K."""

    def __init__(self, classes: int, *, head: str, **options: Any) -> None:
        super().__init__(classes, **options)
        self.pool, units = pool(head, self.last_channel)
        if units != self.last_channel:
            self.classifier[1] = nn.Linear(units, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(pooled(self, x))


def pooled(net: Any, images: Tensor) -> Tensor:
    """B 3 H W -> B F."""
    return net.pool(net.features(images))


def build(
    *,
    classes: int,
    width: float = 1.0,
    table: tuple[tuple[int, ...], ...] = TABLE,
    dropout: float = 0.2,
    norm_momentum: float = 0.1,
    head: str = "gap",
    image_size: int = 224,
    crop_fraction: float = 0.875,
) -> Classifier:
    """width: factor of all channels, rounded to multiples of 8. table: rows of t, c, n, s. dropout: before the last layer. norm_momentum: of
    the norms. head: gap or spp. Raises UsageError.
    """
    if width <= 0:
        raise UsageError(f"width is above 0, not {width}")
    if not table or any(len(row) != 4 or any(type(v) is not int or v < 1 for v in row) or row[3] > 2 for row in table):
        raise UsageError("table is rows of four whole numbers: factor, channels, blocks, stride (1 or 2)")
    norm = partial(BatchNorm, momentum=norm_momentum)
    rows = [list(row) for row in table]
    net = Net(classes, head=head, width_mult=width, inverted_residual_setting=rows, norm_layer=norm, dropout=dropout)
    prepare = Prepare(resize="crop", size=image_size, crop_fraction=crop_fraction)
    return Classifier(net, features=pooled, prepare=prepare, categories=numbered(classes))


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's file."""
    return prefixed(state, "net")
