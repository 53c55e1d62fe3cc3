"""FCN: every layer a convolution, so any size in, a class per pixel out (Long 2014, arXiv:1411.4038).

torchvision's modules under torchvision's names, so that its published weights load key for key: dilated ResNets of stride 8 whose logits are
enlarged bilinearly. An auxiliary classifier on the stage before the last helps training and is not asked at prediction.
"""

from __future__ import annotations

from torch import nn

from cvtool.batch import Prepare
from cvtool.layers.resnet import NarrowResNet
from cvtool.models.segment._semantic import SemanticNet, dilate
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models import resnet50, resnet101
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation.fcn import FCNHead

VARIANTS = {
    "resnet50": {"backbone": "resnet50"},
    "resnet101": {"backbone": "resnet101"},
    "tiny": {"backbone": "narrow", "widths": (16, 24, 32, 48), "image_size": 160},
}
WEIGHTS = {
    "resnet50@coco-voc": {
        "url": "https://download.pytorch.org/models/fcn_resnet50_coco-1167a1af.pth",
        "sha256": "1167a1af",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train, the pictures with VOC's 20 categories",
        "categories": "voc",
        "metrics": {"mIoU": 0.605, "pixel_accuracy": 0.914},
    },
    "resnet101@coco-voc": {
        "url": "https://download.pytorch.org/models/fcn_resnet101_coco-7ecb50ca.pth",
        "sha256": "7ecb50ca",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train, the pictures with VOC's 20 categories",
        "categories": "voc",
        "metrics": {"mIoU": 0.637, "pixel_accuracy": 0.919},
    },
}
ALIASES = {"fcn_resnet50": "resnet50", "fcn_resnet101": "resnet101"}
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


def dilated_resnet(name: str, *, aux: bool, widths: tuple[int, ...] = (), output_stride: int = 8) -> tuple[nn.Module, list[int]]:
    """A residual network whose last map (and, with `aux`, the one before) lies at 1 / `output_stride` (8 or 16), and the maps' channels."""
    narrow = name == "narrow"
    returns = (2, 3) if aux else (3,)
    net: nn.Module = NarrowResNet(tuple(widths), returns=returns) if narrow else {"resnet50": resnet50, "resnet101": resnet101}[name](weights=None)
    third, fourth = (net.stages[2], net.stages[3]) if narrow else (net.layer3, net.layer4)  # type: ignore[index]
    if output_stride == 8:
        dilate(third, 2)  # type: ignore[arg-type]
    dilate(fourth, 4 if output_stride == 8 else 2)  # type: ignore[arg-type]
    if narrow:
        return net, [widths[i] for i in returns]
    layers = {"layer3": "aux", "layer4": "out"} if aux else {"layer4": "out"}
    return IntermediateLayerGetter(net, return_layers=layers), [1024, 2048] if aux else [2048]


def prepare_for(image_size: int | None) -> Prepare:
    """torchvision's evaluation preset."""
    return Prepare(resize="shortest", size=image_size or 520)


def build(*, classes: int, backbone: str, aux: bool = True, image_size: int | None = None, widths: tuple[int, ...] = ()) -> SemanticNet:
    """`classes` outputs a pixel. The published sizes number them as VOC does (21, the first the background)."""
    body, channels = dilated_resnet(backbone, aux=aux, widths=widths)
    auxiliary = FCNHead(channels[0], classes) if aux else None
    return SemanticNet(body, FCNHead(channels[-1], classes), auxiliary, prepare=prepare_for(image_size))
