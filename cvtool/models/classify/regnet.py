"""RegNet: four stages whose depths, widths, groups and bottlenecks were found by searching a space of networks (Radosavovic 2020, arXiv:2003.13678).

A stem of stride 2, a body of four stages that each halve the map, a head. A stage i has d_i blocks of w_i channels, 3x3 convolutions in g_i groups
and a bottleneck ratio b_i; widths need not double. All four are free: `--depths 1,2,7,2 --widths 64,128,288,672 --groups 1,2,4,8`. y-variants add
squeeze-and-excitation. torchvision's modules under torchvision's names, so that its published weights load key for key.
"""

from __future__ import annotations

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
    from torchvision.models.regnet import BlockParams, RegNet

VARIANTS = {
    "x-400mf": {"depths": (1, 2, 7, 12), "widths": (32, 64, 160, 400), "groups": (2, 4, 10, 25)},
    "x-800mf": {"depths": (1, 3, 7, 5), "widths": (64, 128, 288, 672), "groups": (4, 8, 18, 42)},
    "x-1-6gf": {"depths": (2, 4, 10, 2), "widths": (72, 168, 408, 912), "groups": (3, 7, 17, 38)},
    "x-3-2gf": {"depths": (2, 6, 15, 2), "widths": (96, 192, 432, 1008), "groups": (2, 4, 9, 21)},
    "y-400mf": {"depths": (1, 3, 6, 6), "widths": (48, 104, 208, 440), "groups": (6, 13, 26, 55), "se_ratio": 4},
    "y-800mf": {"depths": (1, 3, 8, 2), "widths": (64, 144, 320, 784), "groups": (4, 9, 20, 49), "se_ratio": 4},
    "y-1-6gf": {"depths": (2, 6, 17, 2), "widths": (48, 120, 336, 888), "groups": (2, 5, 14, 37), "se_ratio": 4},
    "y-3-2gf": {"depths": (2, 5, 13, 1), "widths": (72, 216, 576, 1512), "groups": (3, 9, 24, 63), "se_ratio": 4},
    "tiny": {"depths": (1, 1, 1, 1), "widths": (16, 24, 32, 48), "groups": (2, 3, 4, 6), "image_size": 64, "crop_fraction": 1.0},
}
WEIGHTS = {
    "x-400mf@imagenet-v2": {
        "url": "https://download.pytorch.org/models/regnet_x_400mf-62229a5f.pth",
        "sha256": "62229a5f",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.74864, "top5": 0.92322},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "x-400mf@imagenet": {
        "url": "https://download.pytorch.org/models/regnet_x_400mf-adf1edd5.pth",
        "sha256": "adf1edd5",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.72834, "top5": 0.9095},
    },
    "x-800mf@imagenet-v2": {
        "url": "https://download.pytorch.org/models/regnet_x_800mf-94a99ebd.pth",
        "sha256": "94a99ebd",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.77522, "top5": 0.93826},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "x-800mf@imagenet": {
        "url": "https://download.pytorch.org/models/regnet_x_800mf-ad17e45c.pth",
        "sha256": "ad17e45c",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.75212, "top5": 0.92348},
    },
    "x-1-6gf@imagenet-v2": {
        "url": "https://download.pytorch.org/models/regnet_x_1_6gf-a12f2b72.pth",
        "sha256": "a12f2b72",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.79668, "top5": 0.94922},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "x-1-6gf@imagenet": {
        "url": "https://download.pytorch.org/models/regnet_x_1_6gf-e3633e7f.pth",
        "sha256": "e3633e7f",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.7704, "top5": 0.9344},
    },
    "x-3-2gf@imagenet-v2": {
        "url": "https://download.pytorch.org/models/regnet_x_3_2gf-7071aa85.pth",
        "sha256": "7071aa85",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.81196, "top5": 0.9543},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "x-3-2gf@imagenet": {
        "url": "https://download.pytorch.org/models/regnet_x_3_2gf-f342aeae.pth",
        "sha256": "f342aeae",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.78364, "top5": 0.93992},
    },
    "y-400mf@imagenet-v2": {
        "url": "https://download.pytorch.org/models/regnet_y_400mf-e6988f5f.pth",
        "sha256": "e6988f5f",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.75804, "top5": 0.92742},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "y-400mf@imagenet": {
        "url": "https://download.pytorch.org/models/regnet_y_400mf-c65dace8.pth",
        "sha256": "c65dace8",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.74046, "top5": 0.91716},
    },
    "y-800mf@imagenet-v2": {
        "url": "https://download.pytorch.org/models/regnet_y_800mf-58fc7688.pth",
        "sha256": "58fc7688",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.78828, "top5": 0.94502},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "y-800mf@imagenet": {
        "url": "https://download.pytorch.org/models/regnet_y_800mf-1b27b58c.pth",
        "sha256": "1b27b58c",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.7642, "top5": 0.93136},
    },
    "y-1-6gf@imagenet-v2": {
        "url": "https://download.pytorch.org/models/regnet_y_1_6gf-0d7bc02a.pth",
        "sha256": "0d7bc02a",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.80876, "top5": 0.95444},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "y-1-6gf@imagenet": {
        "url": "https://download.pytorch.org/models/regnet_y_1_6gf-b11a554e.pth",
        "sha256": "b11a554e",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.7795, "top5": 0.93966},
    },
    "y-3-2gf@imagenet-v2": {
        "url": "https://download.pytorch.org/models/regnet_y_3_2gf-9180c971.pth",
        "sha256": "9180c971",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.81982, "top5": 0.95972},
        "arguments": {"crop_fraction": 0.9655172413793104},  # 224 of 232 pixels
    },
    "y-3-2gf@imagenet": {
        "url": "https://download.pytorch.org/models/regnet_y_3_2gf-b5a9779c.pth",
        "sha256": "b5a9779c",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.78948, "top5": 0.94576},
    },
}
ALIASES = {
    "regnet_x_400mf": "x-400mf",
    "regnetx-400mf": "x-400mf",
    "regnet_x_800mf": "x-800mf",
    "regnetx-800mf": "x-800mf",
    "regnet_x_1_6gf": "x-1-6gf",
    "regnetx-1-6gf": "x-1-6gf",
    "regnet_x_3_2gf": "x-3-2gf",
    "regnetx-3-2gf": "x-3-2gf",
    "regnet_y_400mf": "y-400mf",
    "regnety-400mf": "y-400mf",
    "regnet_y_800mf": "y-800mf",
    "regnety-800mf": "y-800mf",
    "regnet_y_1_6gf": "y-1-6gf",
    "regnety-1-6gf": "y-1-6gf",
    "regnet_y_3_2gf": "y-3-2gf",
    "regnety-3-2gf": "y-3-2gf",
}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 0.2,
    "weight_decay": 5e-5,
    "batch_size": 256,
    "epochs": 100,
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


def check_stages(depths: tuple[int, ...], widths: tuple[int, ...], groups: tuple[int, ...], bottlenecks: tuple[float, ...]) -> None:
    """Four stages, and in each the groups divide the channels of the 3x3 convolution, w / b. Raises UsageError that says which does not."""
    for name, values in (("depths", depths), ("widths", widths), ("groups", groups)):
        if len(values) != 4 or any(type(value) is not int or value < 1 for value in values):
            raise UsageError(f"{name} is four whole numbers from 1 up, one a stage, not {', '.join(map(str, values)) or 'none'}")
    if len(bottlenecks) != 4 or any(not isinstance(value, (int, float)) or value <= 0 for value in bottlenecks):
        raise UsageError(f"bottlenecks is four numbers above 0, one a stage, not {', '.join(map(str, bottlenecks)) or 'none'}")
    for stage, (width, count, ratio) in enumerate(zip(widths, groups, bottlenecks, strict=True), 1):
        inner = width / ratio
        if inner != int(inner) or int(inner) % count:
            what = f"stage {stage}: {count} groups do not divide the {inner:g} channels of its 3x3 convolutions"
            said = f"width {width}" + (f" over bottleneck {ratio:g}" if ratio != 1 else "")
            near = [n for n in range(1, int(inner) + 1) if int(inner) % n == 0]
            legal = sorted(sorted(near, key=lambda n: abs(n - count))[:3])
            raise UsageError(
                what, where=said, hint=f"groups that do: {', '.join(map(str, legal))}" if inner == int(inner) else "choose another width"
            )


def pooled(net: Any, images: Tensor) -> Tensor:
    """B 3 H W -> B F."""
    return net.avgpool(net.trunk_output(net.stem(images))).flatten(1)


def build(
    *,
    classes: int,
    depths: tuple[int, ...] = (1, 2, 7, 12),
    widths: tuple[int, ...] = (32, 64, 160, 400),
    groups: tuple[int, ...] = (2, 4, 10, 25),
    bottlenecks: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0),
    se_ratio: int = 0,
    head: str = "gap",
    image_size: int = 224,
    crop_fraction: float = 0.875,
) -> Classifier:
    """depths, widths, groups, bottlenecks: d, w, g and b of the four stages; b > 1 narrows the 3x3 convolutions to w / b channels.

    se_ratio: channels of a block's input that share a hidden unit of its squeeze-and-excitation, 0 = none. head: gap or spp. Raises UsageError.
    """
    check_stages(tuple(depths), tuple(widths), tuple(groups), tuple(bottlenecks))
    if se_ratio < 0:
        raise UsageError(f"se_ratio is 0 (none) or 1 and more, not {se_ratio}")
    ratios = [1 / b for b in bottlenecks]  # torchvision multiplies
    inner = [round(w * r) for w, r in zip(widths, ratios, strict=True)]
    group_widths = [width // count for width, count in zip(inner, groups, strict=True)]
    params = BlockParams(list(depths), list(widths), group_widths, ratios, [2] * 4, 1 / se_ratio if se_ratio else None)
    net = RegNet(params, num_classes=classes, norm_layer=BatchNorm)
    if head != "gap":
        net.avgpool, units = pool(head, net.fc.in_features)  # type: ignore[assignment]
        net.fc = nn.Linear(units, classes)
    prepare = Prepare(resize="crop", size=image_size, crop_fraction=crop_fraction)
    return Classifier(net, features=pooled, prepare=prepare, categories=numbered(classes))


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's file."""
    return prefixed(state, "net")
