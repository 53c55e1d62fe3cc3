"""SqueezeNet: fire modules squeeze to few maps before they expand: AlexNet's accuracy, a fiftieth of its weights (Iandola 2016, arXiv:1602.07360).

torchvision's network under torchvision's names, so that its published weights load key for key.
"""

from __future__ import annotations

from torch import Tensor, nn

from cvtool.batch import Prepare
from cvtool.categories import numbered
from cvtool.checkpoint import prefixed
from cvtool.errors import UsageError
from cvtool.layers.classifier import Classifier
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models import SqueezeNet

VARIANTS = {"1-0": {"version": "1_0"}, "1-1": {"version": "1_1"}, "tiny": {"version": "tiny", "image_size": 64}}
WEIGHTS = {
    "1-0@imagenet": {
        "url": "https://download.pytorch.org/models/squeezenet1_0-b66bff10.pth",
        "sha256": "b66bff10",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.58092, "top5": 0.8042},
    },
    "1-1@imagenet": {
        "url": "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        "sha256": "b8a52dc0",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.58178, "top5": 0.80624},
    },
}
ALIASES = {"squeezenet1_0": "1-0", "squeezenet1_1": "1-1"}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 0.04,
    "momentum": 0.9,
    "weight_decay": 2e-4,
    "batch_size": 512,
    "epochs": 90,
    "schedule": "poly:1",
    "augment": "resized-crop,flip",
    "variants": {"tiny": {"optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.01, "batch_size": 8, "schedule": "one-cycle", "augment": "flip"}},
}


def tiny(classes: int, dropout: float) -> SqueezeNet:
    """Version 1.1 up to its second fire module."""
    net = SqueezeNet("1_1", num_classes=classes, dropout=dropout)
    net.features = net.features[:5]
    net.classifier[1] = nn.Conv2d(128, classes, 1)
    return net


def pooled(net: nn.Module, images: Tensor) -> Tensor:
    """B 3 H W -> B 512: the average of the last map before the classes."""
    return net.features(images).mean((2, 3))  # type: ignore[operator]


def build(*, classes: int, version: str = "1_0", dropout: float = 0.5, head: str = "gap", image_size: int | None = None) -> Classifier:
    """version: 1_0, the paper's, or 1_1, with 2.4 times less work. The published weights take pictures of 224. head: gap, for its last layer is a
    convolution whose maps are averaged. Raises UsageError for another."""
    if head != "gap":
        raise UsageError(f"--head {head}: squeezenet has no layer behind its maps, it averages them", hint="--head gap")
    net = tiny(classes, dropout) if version == "tiny" else SqueezeNet(version, num_classes=classes, dropout=dropout)
    size = image_size or 224
    prepare = Prepare(resize="crop", size=size, crop_fraction=0.875 if size > 200 else 1.0)
    return Classifier(net, features=pooled, prepare=prepare, categories=numbered(classes))


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's file."""
    return prefixed(state, "net")
