"""DeepLab v3: dilated stages keep the map dense, and a pyramid of dilated convolutions reads it at several scales (Chen 2017, arXiv:1706.05587).

torchvision's backbones and its names, also in the pyramid (`layers/aspp.py`), so that its published weights load key for key. The output stride is a
choice made after training as well as before: the same weights run at 16 (variants ending in -s16: half the rates, a third of the work) or at 8. The
paper trains at 16 first, then goes on at 8: `train -m deeplab-v3.resnet50-s16`, then `train -m deeplab-v3.resnet50 --set init=RUN`.
"""

from __future__ import annotations

from torch import nn

from cvtool.errors import UsageError
from cvtool.layers.aspp import ASPP
from cvtool.models.segment._semantic import SemanticNet
from cvtool.models.segment.fcn import dilated_resnet, prepare_for
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models import mobilenet_v3_large
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation.fcn import FCNHead

VARIANTS = {
    "resnet50": {"backbone": "resnet50"},
    "resnet101": {"backbone": "resnet101"},
    "mobilenet": {"backbone": "mobilenet", "output_stride": 16},
    "resnet50-s16": {"backbone": "resnet50", "output_stride": 16},
    "resnet101-s16": {"backbone": "resnet101", "output_stride": 16},
    "tiny": {"backbone": "narrow", "widths": (16, 24, 32, 48), "channels": 48, "rates": (2, 4, 6), "image_size": 160},
    "tiny-s16": {"backbone": "narrow", "widths": (16, 24, 32, 48), "channels": 48, "rates": (2, 4, 6), "image_size": 160, "output_stride": 16},
}
WEIGHTS = {
    "resnet50@coco-voc": {
        "url": "https://download.pytorch.org/models/deeplabv3_resnet50_coco-cd0a2569.pth",
        "sha256": "cd0a2569",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train, the pictures with VOC's 20 categories",
        "categories": "voc",
        "metrics": {"mIoU": 0.664, "pixel_accuracy": 0.924},
    },
    "resnet101@coco-voc": {
        "url": "https://download.pytorch.org/models/deeplabv3_resnet101_coco-586e9e4e.pth",
        "sha256": "586e9e4e",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train, the pictures with VOC's 20 categories",
        "categories": "voc",
        "metrics": {"mIoU": 0.674, "pixel_accuracy": 0.924},
    },
    "mobilenet@coco-voc": {
        "url": "https://download.pytorch.org/models/deeplabv3_mobilenet_v3_large-fc3c493d.pth",
        "sha256": "fc3c493d",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train, the pictures with VOC's 20 categories",
        "categories": "voc",
        "metrics": {"mIoU": 0.603, "pixel_accuracy": 0.912},
    },
    "resnet50-s16@coco-voc": {  # the same file; its accuracy at this stride is not published
        "url": "https://download.pytorch.org/models/deeplabv3_resnet50_coco-cd0a2569.pth",
        "sha256": "cd0a2569",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train, the pictures with VOC's 20 categories",
        "categories": "voc",
        "metrics": {},
    },
    "resnet101-s16@coco-voc": {  # the same file; its accuracy at this stride is not published
        "url": "https://download.pytorch.org/models/deeplabv3_resnet101_coco-586e9e4e.pth",
        "sha256": "586e9e4e",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train, the pictures with VOC's 20 categories",
        "categories": "voc",
        "metrics": {},
    },
}
ALIASES = {
    "deeplabv3": "",
    "deeplabv3_resnet50": "resnet50",
    "deeplabv3_resnet101": "resnet101",
    "deeplabv3_mobilenet_v3_large": "mobilenet",
}
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


def head(inputs: int, classes: int, rates: tuple[int, ...], *, channels: int = 256) -> nn.Sequential:
    """Atrous spatial pyramid pooling (1x1, one 3x3 a rate, the image's mean; concatenated, 1x1), a 3x3 convolution, the classes."""
    pyramid = ASPP(inputs, channels, rates=rates)
    return nn.Sequential(
        pyramid, nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, classes, 1)
    )


def mobilenet(layers: tuple[str, ...]) -> tuple[nn.Module, list[int]]:
    """The maps of the named layers of MobileNet v3, which dilates instead of its last stride, and their channels: 4 is at stride 8, 16 at 16."""
    features = mobilenet_v3_large(weights=None, dilated=True).features
    return IntermediateLayerGetter(features, return_layers={name: name for name in layers}), [features[int(i)].out_channels for i in layers]  # type: ignore[union-attr,misc]


def build(*, classes: int, backbone: str, output_stride: int = 8, aux: bool = True, image_size: int | None = None,
          rates: tuple[int, ...] = (12, 24, 36), channels: int = 256, widths: tuple[int, ...] = ()) -> SemanticNet:  # fmt: skip
    """`classes` outputs a pixel. The published sizes number them as VOC does (21, the first the background).

    output_stride: 8 or 16 (mobilenet: 16); `rates` are those at 8 and are halved at 16, where a step is twice as far. MobileNet's stand as given.
    """
    if backbone == "mobilenet":
        if output_stride != 16:
            raise UsageError(f"deeplab-v3.mobilenet has an output stride of 16, not {output_stride}")
        body, inputs = mobilenet(("4", "16") if aux else ("16",))
    else:
        if output_stride not in (8, 16):
            raise UsageError(f"output_stride is 8 or 16, not {output_stride}")
        body, inputs = dilated_resnet(backbone, aux=aux, widths=widths, output_stride=output_stride)
        rates = tuple(rate * 8 // output_stride for rate in rates)
    auxiliary = FCNHead(inputs[0], classes) if aux else None
    return SemanticNet(body, head(inputs[-1], classes, rates, channels=channels), auxiliary, prepare=prepare_for(image_size))
