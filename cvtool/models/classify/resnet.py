"""ResNet: each block adds to its input what it has learned, so that depth stops hurting (He 2015, arXiv:1512.03385).

torchvision's blocks under torchvision's names, so that its published weights load key for key: 18 and 34 of two 3x3 convolutions a block, 50, 101
and 152 of bottlenecks. plain18 and plain34 are the same networks without shortcuts, the paper's ablation. 20, 32, 44 and 56 are those of section
4.2 for pictures of 32 x 32: three stages of n blocks, 6 n + 2 layers, shortcuts without parameters; their weights are those of akamaster's
pytorch_resnet_cifar10, key for key.
"""

from __future__ import annotations

from torch import Tensor

from cvtool.checkpoint import prefixed, with_versions
from cvtool.layers.classifier import Classifier
from cvtool.models.classify._residual import ResNet, begin_as_identity, classifier, pooled_by, squeeze
from cvtool.models.classify._residual import stride_in as strides

VARIANTS = {
    "18": {"block": "basic", "layers": (2, 2, 2, 2)},
    "34": {"block": "basic", "layers": (3, 4, 6, 3)},
    "50": {"block": "bottleneck", "layers": (3, 4, 6, 3)},
    "101": {"block": "bottleneck", "layers": (3, 4, 23, 3)},
    "152": {"block": "bottleneck", "layers": (3, 8, 36, 3)},
    "plain18": {"block": "plain", "layers": (2, 2, 2, 2)},
    "plain34": {"block": "plain", "layers": (3, 4, 6, 3)},
    "20": {"layers": (3, 3, 3), "widths": (16, 32, 64), "stem": "3x3", "projection": False, "image_size": 32, "crop_fraction": 1.0},
    "32": {"layers": (5, 5, 5), "widths": (16, 32, 64), "stem": "3x3", "projection": False, "image_size": 32, "crop_fraction": 1.0},
    "44": {"layers": (7, 7, 7), "widths": (16, 32, 64), "stem": "3x3", "projection": False, "image_size": 32, "crop_fraction": 1.0},
    "56": {"layers": (9, 9, 9), "widths": (16, 32, 64), "stem": "3x3", "projection": False, "image_size": 32, "crop_fraction": 1.0},
    "tiny": {"layers": (1, 1, 1), "widths": (8, 16, 32), "stem": "3x3", "projection": False, "image_size": 32, "crop_fraction": 1.0},
}
WEIGHTS = {
    "18@imagenet": {
        "url": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
        "sha256": "f37072fd",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.69758, "top5": 0.89078},
    },
    "34@imagenet": {
        "url": "https://download.pytorch.org/models/resnet34-b627a593.pth",
        "sha256": "b627a593",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.73314, "top5": 0.9142},
    },
    "50@imagenet-v2": {
        "url": "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
        "sha256": "11ad3fa6",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.80858, "top5": 0.95434},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "50@imagenet": {
        "url": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
        "sha256": "0676ba61",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.7613, "top5": 0.92862},
    },
    "101@imagenet-v2": {
        "url": "https://download.pytorch.org/models/resnet101-cd907fc2.pth",
        "sha256": "cd907fc2",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.81886, "top5": 0.9578},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "101@imagenet": {
        "url": "https://download.pytorch.org/models/resnet101-63fe2227.pth",
        "sha256": "63fe2227",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.77374, "top5": 0.93546},
    },
    "152@imagenet-v2": {
        "url": "https://download.pytorch.org/models/resnet152-f82ba261.pth",
        "sha256": "f82ba261",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.82284, "top5": 0.96002},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "152@imagenet": {
        "url": "https://download.pytorch.org/models/resnet152-394f9c45.pth",
        "sha256": "394f9c45",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.78312, "top5": 0.94046},
    },
    "20@cifar10": {
        "url": "https://github.com/akamaster/pytorch_resnet_cifar10/raw/d5489e8995e81e91ce6b1d69dcc98ad579b0b153/pretrained_models/resnet20-12fca82f.th",
        "sha256": "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8",
        "licence": "BSD-2-Clause",
        "data": "CIFAR-10 train",
        "categories": "cifar10",
        "metrics": {"top1": 0.9173},
    },
    "32@cifar10": {
        "url": "https://github.com/akamaster/pytorch_resnet_cifar10/raw/d5489e8995e81e91ce6b1d69dcc98ad579b0b153/pretrained_models/resnet32-d509ac18.th",
        "sha256": "d509ac18",
        "licence": "BSD-2-Clause",
        "data": "CIFAR-10 train",
        "categories": "cifar10",
        "metrics": {"top1": 0.9263},
    },
    "44@cifar10": {
        "url": "https://github.com/akamaster/pytorch_resnet_cifar10/raw/d5489e8995e81e91ce6b1d69dcc98ad579b0b153/pretrained_models/resnet44-014dd654.th",
        "sha256": "014dd654",
        "licence": "BSD-2-Clause",
        "data": "CIFAR-10 train",
        "categories": "cifar10",
        "metrics": {"top1": 0.931},
    },
    "56@cifar10": {
        "url": "https://github.com/akamaster/pytorch_resnet_cifar10/raw/d5489e8995e81e91ce6b1d69dcc98ad579b0b153/pretrained_models/resnet56-4bfd9763.th",
        "sha256": "4bfd9763",
        "licence": "BSD-2-Clause",
        "data": "CIFAR-10 train",
        "categories": "cifar10",
        "metrics": {"top1": 0.9339},
    },
}
ALIASES = {
    "resnet18": "18",
    "resnet-18": "18",
    "resnet34": "34",
    "resnet-34": "34",
    "resnet50": "50",
    "resnet-50": "50",
    "resnet101": "101",
    "resnet-101": "101",
    "resnet152": "152",
    "resnet-152": "152",
    "resnet20": "20",
    "resnet-20": "20",
    "resnet32": "32",
    "resnet-32": "32",
    "resnet44": "44",
    "resnet-44": "44",
    "resnet56": "56",
    "resnet-56": "56",
    "plain18": "plain18",
    "plain-18": "plain18",
    "plain34": "plain34",
    "plain-34": "plain34",
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
        "20": {"batch_size": 128, "epochs": 164, "schedule": "one-cycle", "warmup": 0.2, "augment": "flip,shift:4", "channels_last": True},
        "32": {"batch_size": 128, "epochs": 164, "schedule": "one-cycle", "warmup": 0.2, "augment": "flip,shift:4", "channels_last": True},
        "44": {"batch_size": 128, "epochs": 164, "schedule": "one-cycle", "warmup": 0.2, "augment": "flip,shift:4", "channels_last": True},
        "56": {"batch_size": 128, "epochs": 164, "schedule": "one-cycle", "warmup": 0.2, "augment": "flip,shift:4", "channels_last": True},
        "tiny": {"optimizer": "adamw", "lr": 1e-2, "weight_decay": 0.01, "batch_size": 8, "epochs": 20, "schedule": "one-cycle", "augment": "flip"},
    },
}


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's names, or those of the CIFAR-10 networks, whose last layer is called `linear`."""
    own = {key.replace("linear.", "fc.") if key.startswith("linear.") else key: value for key, value in state.items()}
    return prefixed(with_versions(own, getattr(state, "_metadata", None)), "net")


def build(
    *,
    classes: int,
    block: str = "basic",
    layers: tuple[int, ...] = (2, 2, 2, 2),
    widths: tuple[int, ...] = (64, 128, 256, 512),
    stem: str = "7x7",
    projection: bool = True,
    stride_in: str = "3x3",
    se_ratio: int = 0,
    head: str = "gap",
    zero_init: bool = False,
    image_size: int = 224,
    crop_fraction: float = 0.875,
) -> Classifier:
    """block: basic, plain (no shortcut) or bottleneck. layers: blocks a stage; widths: channels of a stage, a quarter of them for a bottleneck.

    stem: 7x7 and a max-pooling, or 3x3 at full size (for small pictures). stride_in: the convolution of a bottleneck that halves the map; 1x1 is
    the paper's. se_ratio: channels a hidden unit of a squeeze-and-excitation in every block, 0 = none. head: gap, spp or flatten. zero_init: blocks
    begin as the identity. crop_fraction: the part of the shorter edge that is looked at.
    """
    net = ResNet(block, tuple(layers), classes=classes, widths=tuple(widths), stem=stem, projection=projection)
    strides(net, stride_in)
    squeeze(net, se_ratio)
    pooled_by(net, head, image_size)
    if zero_init:
        begin_as_identity(net)
    return classifier(net, image_size=image_size, crop_fraction=crop_fraction)
