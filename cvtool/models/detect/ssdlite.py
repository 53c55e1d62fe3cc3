"""SSDlite: SSD for phones, its heads and extra maps of separable convolutions (Sandler 2018, arXiv:1801.04381).

torchvision's modules under torchvision's names, so that its published weights load key for key; losses and prediction are SSD's.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from cvtool.batch import Prepare
from cvtool.layers.anchors import DefaultBoxes
from cvtool.layers.batch_norm import BatchNorm
from cvtool.layers.resnet import NarrowResNet
from cvtool.models.detect.ssd import SSD
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models import mobilenet_v3_large
    from torchvision.models.detection import ssdlite as tv

VARIANTS = {
    "mobilenet": {"backbone": "mobilenet"},
    "tiny": {"backbone": "narrow", "image_size": 64},
}
WEIGHTS = {
    "mobilenet@coco": {
        "url": "https://download.pytorch.org/models/ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
        "sha256": "a79551df",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train",
        "categories": "coco",
        "metrics": {"AP": 0.213},
    },
}
ALIASES = {"ssdlite320": "mobilenet", "ssdlite320_mobilenet_v3_large": "mobilenet"}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 0.15,
    "weight_decay": 4e-5,
    "batch_size": 192,
    "epochs": 660,
    "schedule": "cosine",
    "augment": "flip,crop",
    "variants": {
        "tiny": {"optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.01, "batch_size": 4, "epochs": 20, "schedule": "one-cycle", "augment": "flip"},
    },
}


def build(
    *, classes: int, backbone: str, image_size: int = 320, widths: tuple[int, ...] = (8, 16, 16, 24), neg_ratio: float = 3.0, neg_nms: float = 1.0
) -> SSD:
    """`classes` categories; one more output is the background. neg_ratio, neg_nms: which negatives are learned from, as in SSD."""
    norm = partial(BatchNorm, eps=0.001, momentum=0.03)
    if backbone == "narrow":
        body: nn.Module = NarrowResNet(tuple(widths), returns=(1, 2, 3))
        anchors, channels = DefaultBoxes([[2], [2, 3], [2]], scales=[0.15, 0.35, 0.6, 0.9]), list(widths[1:])
        prepare = Prepare(resize="stretch", size=image_size)
    else:
        trunk = mobilenet_v3_large(weights=None, norm_layer=norm, reduced_tail=True)
        tv._normal_init(trunk)
        body, channels = tv._mobilenet_extractor(trunk, 6, norm), [672, 480, 512, 256, 256, 128]
        anchors = DefaultBoxes([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
        prepare = Prepare(resize="stretch", size=image_size, mean=(0.5,) * 3, std=(0.5,) * 3, antialias=False)
    head = tv.SSDLiteHead(channels, anchors.num_anchors_per_location(), classes + 1, norm)
    negatives = {"neg_ratio": neg_ratio, "neg_nms": neg_nms}
    return SSD(body, head, anchors, prepare=prepare, defaults=(0.001, 0.55, 300), candidates=300, **negatives)
