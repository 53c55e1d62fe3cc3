"""SE-ResNet: ResNet and ResNeXt whose blocks weigh their channels by what the whole picture holds (Hu 2017, arXiv:1709.01507).

A squeeze-and-excitation of ratio 16 at the end of every residual branch, before the sum (fig. 3). The blocks are torchvision's, the names those of
timm's seresnet50, seresnext50_32x4d and the like, whose published weights load key for key. The next-variants are SE-ResNeXt.
"""

from __future__ import annotations

from torch import Tensor

from cvtool.checkpoint import prefixed
from cvtool.errors import UsageError
from cvtool.layers.classifier import Classifier
from cvtool.models.classify._residual import ResNet, classifier, pooled_by, squeeze
from cvtool.models.classify._residual import stride_in as strides

VARIANTS = {
    "50": {"layers": (3, 4, 6, 3)},
    "18": {"block": "basic", "layers": (2, 2, 2, 2)},
    "34": {"block": "basic", "layers": (3, 4, 6, 3)},
    "101": {"layers": (3, 4, 23, 3)},
    "152": {"layers": (3, 8, 36, 3)},
    "next50-32x4d": {"layers": (3, 4, 6, 3), "groups": 32, "width": 4},
    "next101-32x4d": {"layers": (3, 4, 23, 3), "groups": 32, "width": 4},
    "next101-32x8d": {"layers": (3, 4, 23, 3), "groups": 32, "width": 8},
    "tiny": {"block": "basic", "layers": (1, 1, 1), "widths": (8, 16, 32), "stem": "3x3", "se_ratio": 4, "image_size": 32, "crop_fraction": 1.0},
}
WEIGHTS = {
    "50@imagenet": {
        "url": "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/seresnet50_ra_224-8efdb4bb.pth",
        "sha256": "8efdb4bb",
        "licence": "Apache-2.0",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.81284, "top5": 0.95652},
        "arguments": {"image_size": 288, "crop_fraction": 0.9504950495049505, "interpolation": "bicubic"},  # 288 of 303 pixels
    },
    "next50-32x4d@imagenet": {
        "url": "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/seresnext50_32x4d_racm-a304a460.pth",
        "sha256": "a304a460",
        "licence": "Apache-2.0",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.82196, "top5": 0.96148},
        "arguments": {"image_size": 288, "crop_fraction": 0.9504950495049505, "interpolation": "bicubic"},
    },
    "next101-32x4d@imagenet": {
        "url": "https://github.com/rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1/gluon_seresnext101_32x4d-cf52900d.pth",
        "sha256": "cf52900d",
        "licence": "Apache-2.0",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.80892, "top5": 0.95296},
        "arguments": {"interpolation": "bicubic"},
    },
}
ALIASES = {
    "seresnet50": "50",
    "se-resnet50": "50",
    "seresnet18": "18",
    "seresnet34": "34",
    "seresnet101": "101",
    "seresnet152": "152",
    "se-resnext": "next50-32x4d",
    "se-resnext50": "next50-32x4d",
    "se_resnext50": "next50-32x4d",
    "seresnext50_32x4d": "next50-32x4d",
    "seresnext101_32x4d": "next101-32x4d",
    "seresnext101_32x8d": "next101-32x8d",
}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 0.6,
    "weight_decay": 1e-4,
    "batch_size": 1024,
    "epochs": 100,
    "schedule": "step",
    "augment": "resized-crop,flip",
    "variants": {
        "tiny": {"optimizer": "adamw", "lr": 1e-2, "weight_decay": 0.01, "batch_size": 8, "epochs": 20, "schedule": "one-cycle", "augment": "flip"},
    },
}


def build(
    *,
    classes: int,
    block: str = "bottleneck",
    layers: tuple[int, ...] = (3, 4, 6, 3),
    widths: tuple[int, ...] = (64, 128, 256, 512),
    stem: str = "7x7",
    groups: int = 1,
    width: int = 64,
    stride_in: str = "3x3",
    se_ratio: int = 16,
    head: str = "gap",
    image_size: int = 224,
    crop_fraction: float = 0.875,
    interpolation: str = "bilinear",
) -> Classifier:
    """se_ratio: r, the channels that share a hidden unit of the excitation. groups, width: of a ResNeXt's branches. interpolation: of the pictures,
    as the weights were trained. layers, widths, stem, stride_in, head, image_size, crop_fraction: as for `resnet`. Raises UsageError.
    """
    if se_ratio < 1:
        raise UsageError(f"se_ratio is 1 or more, not {se_ratio}", hint="without squeeze-and-excitation it is `resnet` or `resnext`")
    if groups < 1 or width < 1 or (block != "bottleneck" and (groups, width) != (1, 64)):
        raise UsageError(f"groups={groups} and width={width} are 1 or more, and those of bottlenecks")
    net = ResNet(block, tuple(layers), classes=classes, widths=tuple(widths), stem=stem, groups=groups, width_per_group=width)
    strides(net, stride_in)
    squeeze(net, se_ratio)
    pooled_by(net, head, image_size)
    return classifier(net, image_size=image_size, crop_fraction=crop_fraction, interpolation=interpolation)


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's file."""
    return prefixed(state, "net")
