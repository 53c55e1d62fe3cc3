"""EfficientNet: depth, width and resolution grown together by one coefficient (Tan 2019, arXiv:1905.11946).

B0 is scaled by d = 1.2^phi, w = 1.1^phi, r = 1.15^phi, so that the cost doubles with each unit of phi: 1.2 x 1.1^2 x 1.15^2 = 1.92 (section 3.3).
The published sizes b1 to b7 have rounded factors of their own. `--phi` scales any of them on; `--scale-width`, `--scale-depth` and `--scale-res`
scale one dimension alone (section 3.2, fig. 3). torchvision's modules under torchvision's names, so that its published weights load key for key.

l2 (Xie 2019, arXiv:1911.04252, table 7) is 4.3 times as wide and 5.3 times as deep; its weights come from TensorFlow, by way of timm, whose module it
is: convolutions padded unevenly where the stride asks for it.
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
from cvtool.models.classify._residual import known
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15  # depth, width, resolution
# table 1: expansion, kernel, stride of the first block, channels in, out, blocks
TABLE = ((1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3), (6, 5, 1, 80, 112, 3), (6, 5, 2, 112, 192, 4),
         (6, 3, 1, 192, 320, 1))  # fmt: skip
VARIANTS = {
    "b0": {"width": 1.0, "depth": 1.0, "image_size": 224, "dropout": 0.2},
    "b1": {"width": 1.0, "depth": 1.1, "image_size": 240, "dropout": 0.2},
    "b2": {"width": 1.1, "depth": 1.2, "image_size": 288, "dropout": 0.3},
    "b3": {"width": 1.2, "depth": 1.4, "image_size": 300, "dropout": 0.3},
    "b4": {"width": 1.4, "depth": 1.8, "image_size": 380, "dropout": 0.4},
    "b5": {"width": 1.6, "depth": 2.2, "image_size": 456, "dropout": 0.4, "norm_eps": 1e-3, "norm_momentum": 0.01},
    "b6": {"width": 1.8, "depth": 2.6, "image_size": 528, "dropout": 0.5, "norm_eps": 1e-3, "norm_momentum": 0.01},
    "b7": {"width": 2.0, "depth": 3.1, "image_size": 600, "dropout": 0.5, "norm_eps": 1e-3, "norm_momentum": 0.01},
    "l2": {"padding": "same", "width": 4.3, "depth": 5.3, "image_size": 800, "dropout": 0.5, "norm_eps": 1e-3, "crop_fraction": 0.96},
    "tiny": {"width": 0.25, "depth": 0.3, "image_size": 64, "crop_fraction": 1.0, "dropout": 0.0, "stochastic_depth": 0.0, "norm_momentum": 0.3},
}
WEIGHTS = {
    "b0@imagenet": {
        "url": "https://download.pytorch.org/models/efficientnet_b0_rwightman-7f5810bc.pth",
        "sha256": "7f5810bc",
        "licence": "Apache-2.0",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.77692, "top5": 0.93532},
    },
    "b1@imagenet-v2": {
        "url": "https://download.pytorch.org/models/efficientnet_b1-c27df63c.pth",
        "sha256": "c27df63c",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.79838, "top5": 0.94934},
        "arguments": {"crop_fraction": 0.9411764705882353, "interpolation": "bilinear"},  # 240 of 255 pixels
    },
    "b1@imagenet": {
        "url": "https://download.pytorch.org/models/efficientnet_b1_rwightman-bac287d4.pth",
        "sha256": "bac287d4",
        "licence": "Apache-2.0",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.78642, "top5": 0.94186},
        "arguments": {"crop_fraction": 0.9375},  # 240 of 256 pixels
    },
    "b2@imagenet": {
        "url": "https://download.pytorch.org/models/efficientnet_b2_rwightman-c35c1473.pth",
        "sha256": "c35c1473",
        "licence": "Apache-2.0",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.80608, "top5": 0.9531},
        "arguments": {"crop_fraction": 1.0},  # 288 of 288 pixels
    },
    "b3@imagenet": {
        "url": "https://download.pytorch.org/models/efficientnet_b3_rwightman-b3899882.pth",
        "sha256": "b3899882",
        "licence": "Apache-2.0",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.82008, "top5": 0.96054},
        "arguments": {"crop_fraction": 0.9375},  # 300 of 320 pixels
    },
    "b4@imagenet": {
        "url": "https://download.pytorch.org/models/efficientnet_b4_rwightman-23ab8bcd.pth",
        "sha256": "23ab8bcd",
        "licence": "Apache-2.0",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.83384, "top5": 0.96594},
        "arguments": {"crop_fraction": 0.9895833333333334},  # 380 of 384 pixels
    },
    "b5@imagenet": {
        "url": "https://download.pytorch.org/models/efficientnet_b5_lukemelas-1a07897c.pth",
        "sha256": "1a07897c",
        "licence": "Apache-2.0",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.83444, "top5": 0.96628},
        "arguments": {"crop_fraction": 1.0},  # 456 of 456 pixels
    },
    "b6@imagenet": {
        "url": "https://download.pytorch.org/models/efficientnet_b6_lukemelas-24a108a5.pth",
        "sha256": "24a108a5",
        "licence": "Apache-2.0",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.84008, "top5": 0.96916},
        "arguments": {"crop_fraction": 1.0},  # 528 of 528 pixels
    },
    "b7@imagenet": {
        "url": "https://download.pytorch.org/models/efficientnet_b7_lukemelas-c5b4e57e.pth",
        "sha256": "c5b4e57e",
        "licence": "Apache-2.0",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.84122, "top5": 0.96908},
        "arguments": {"crop_fraction": 1.0},  # 600 of 600 pixels
    },
    "l2@imagenet-noisy-student": {
        "url": "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/tf_efficientnet_l2_ns-df73bb44.pth",
        "sha256": "df73bb44",
        "licence": "Apache-2.0",
        "data": "ImageNet-1K and JFT-300M without its labels",
        "categories": "imagenet",
        "metrics": {"top1": 0.88352, "top5": 0.98648},
    },
}
ALIASES = {
    "efficientnet_b0": "b0",
    "efficientnet-b0": "b0",
    "efficientnet_b1": "b1",
    "efficientnet-b1": "b1",
    "efficientnet_b2": "b2",
    "efficientnet-b2": "b2",
    "efficientnet_b3": "b3",
    "efficientnet-b3": "b3",
    "efficientnet_b4": "b4",
    "efficientnet-b4": "b4",
    "efficientnet_b5": "b5",
    "efficientnet-b5": "b5",
    "efficientnet_b6": "b6",
    "efficientnet-b6": "b6",
    "efficientnet_b7": "b7",
    "efficientnet-b7": "b7",
    "efficientnet_l2": "l2",
    "efficientnet-l2": "l2",
}
RECIPE = {
    "step": "supervised",
    "optimizer": "rmsprop",
    "lr": 0.016,
    "weight_decay": 1e-5,
    "batch_size": 256,
    "epochs": 350,
    "warmup": 5.0,
    "schedule": "cosine",
    "augment": "resized-crop,flip",
    "variants": {
        "tiny": {
            "optimizer": "adamw",
            "lr": 1e-2,
            "weight_decay": 0.01,
            "batch_size": 8,
            "epochs": 20,
            "schedule": "one-cycle",
            "augment": "flip",
            "warmup": 0.0,
        },
    },
}


def pooled(net: Any, images: Tensor) -> Tensor:
    """B 3 H W -> B F, of torchvision's module."""
    return net.avgpool(net.features(images)).flatten(1)


def pooled_of_timm(net: Any, images: Tensor) -> Tensor:
    """The same of timm's."""
    return net.forward_head(net.forward_features(images), pre_logits=True)


def _of_timm(classes: int, *, width: float, depth: float, dropout: float, stochastic_depth: float, eps: float, momentum: float) -> nn.Module:
    """timm's module of B0's blocks, whose names the weights that came from TensorFlow have."""
    with cheap_import():
        from timm.models.efficientnet import _gen_efficientnet
    return _gen_efficientnet(
        "tf_efficientnet_l2", channel_multiplier=width, depth_multiplier=depth, num_classes=classes, pad_type="same",
        bn_eps=eps, bn_momentum=momentum, drop_rate=dropout, drop_path_rate=stochastic_depth,
    )  # fmt: skip


def compound(phi: float) -> tuple[float, float, float]:
    """Factors of depth, width and resolution at coefficient `phi` (eq. 3)."""
    return ALPHA**phi, BETA**phi, GAMMA**phi


def build(
    *,
    classes: int,
    width: float = 1.0,
    depth: float = 1.0,
    phi: float = 0.0,
    scale_width: float = 1.0,
    scale_depth: float = 1.0,
    scale_res: float = 1.0,
    padding: str = "even",
    dropout: float = 0.2,
    stochastic_depth: float = 0.2,
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
    head: str = "gap",
    image_size: int = 224,
    crop_fraction: float = 0.875,
    interpolation: str = "bicubic",
) -> Classifier:
    """width, depth: factors of B0's channels and blocks. phi: compound coefficient on top. scale_width, scale_depth, scale_res: one dimension alone.

    padding: even (torchvision's), or same (TensorFlow's, timm's module). dropout: before the last layer. stochastic_depth: probability that the last
    residual branch is left out, falling linearly to 0 at the first. norm_eps, norm_momentum: of the norms. head: gap or spp, for `same` gap alone.
    Raises UsageError for factors that are not above 0.
    """
    known("padding", padding, ("even", "same"))
    deeper, wider, larger = compound(phi)
    depth, width, image_size = depth * deeper * scale_depth, width * wider * scale_width, round(image_size * larger * scale_res)
    if min(width, depth, image_size) <= 0:
        raise UsageError("width, depth and resolution are scaled by factors above 0")
    prepare = Prepare(resize="crop", size=image_size, crop_fraction=crop_fraction, interpolation=interpolation)  # type: ignore[arg-type]
    if padding == "same":
        known("head", head, ("gap",))
        timms = _of_timm(classes, width=width, depth=depth, dropout=dropout, stochastic_depth=stochastic_depth, eps=norm_eps, momentum=norm_momentum)
        return Classifier(timms, features=pooled_of_timm, prepare=prepare, categories=numbered(classes))
    rows = [MBConvConfig(*row, width_mult=width, depth_mult=depth) for row in TABLE]  # type: ignore[arg-type]
    norm = partial(BatchNorm, eps=norm_eps, momentum=norm_momentum)
    net = EfficientNet(rows, dropout, stochastic_depth, num_classes=classes, norm_layer=norm)
    if head != "gap":
        net.avgpool, units = pool(head, net.classifier[1].in_features)  # type: ignore[assignment]
        net.classifier[1] = nn.Linear(units, classes)
    return Classifier(net, features=pooled, prepare=prepare, categories=numbered(classes))


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's file; for l2 timm's."""
    return prefixed(state, "net")
