"""LR-ASPP: a segmentation head for phones, one gated 1x1 branch on deep features and one on shallow ones (Howard 2019, arXiv:1905.02244).

torchvision's modules under torchvision's names, so that its published weights load key for key.
"""

from __future__ import annotations

from torch import Tensor, nn

from cvtool.layers.resnet import NarrowResNet
from cvtool.models.segment._semantic import SemanticNet, dilate
from cvtool.models.segment.deeplab_v3 import mobilenet
from cvtool.models.segment.fcn import prepare_for
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models.segmentation.lraspp import LRASPPHead

VARIANTS = {
    "mobilenet": {"backbone": "mobilenet"},
    "tiny": {"backbone": "narrow", "widths": (16, 24, 32, 48), "channels": 32, "image_size": 160},
}
WEIGHTS = {
    "mobilenet@coco-voc": {
        "url": "https://download.pytorch.org/models/lraspp_mobilenet_v3_large-d234d4ea.pth",
        "sha256": "d234d4ea",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train, the pictures with VOC's 20 categories",
        "categories": "voc",
        "metrics": {"mIoU": 0.579, "pixel_accuracy": 0.912},
    },
}
ALIASES = {"lraspp": "", "lraspp_mobilenet_v3_large": "mobilenet"}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 0.02,
    "weight_decay": 1e-4,
    "batch_size": 16,
    "epochs": 30,
    "schedule": "poly",
    "augment": "flip,crop",
    "variants": {
        "tiny": {
            "optimizer": "adamw",
            "lr": 2e-3,
            "weight_decay": 0.01,
            "batch_size": 8,
            "epochs": 30,
            "schedule": "one-cycle",
            "augment": "flip,crop",
        },
    },
}


class LRASPP(SemanticNet):
    """forward: as `SemanticNet`. The backbone gives two maps: shallow (stride 8) and deep (stride 16)."""

    def logits(self, maps: list[Tensor]) -> Tensor:
        return self.classifier({"low": maps[0], "high": maps[-1]}).float()


def build(*, classes: int, backbone: str, image_size: int | None = None, channels: int = 128, widths: tuple[int, ...] = ()) -> LRASPP:
    """`classes` outputs a pixel. The published size numbers them as VOC does (21, the first the background)."""
    if backbone == "narrow":
        body: nn.Module = NarrowResNet(tuple(widths), returns=(1, 3))
        dilate(body.stages[3], 2)  # type: ignore[index,arg-type]
        low, high = widths[1], widths[3]
    else:
        body, (low, high) = mobilenet(("4", "16"))
    return LRASPP(body, LRASPPHead(low, high, classes, channels), prepare=prepare_for(image_size))
