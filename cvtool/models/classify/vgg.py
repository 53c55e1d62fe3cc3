"""VGG: nothing but 3 x 3 convolutions, doubled in width after each of five poolings (Simonyan 2014, arXiv:1409.1556).

The tensors are torchvision's, so that its published weights load key for key. Every layer can be asked for by the paper's name: `net.layers` maps
conv1_1, relu1_1, ..., pool5 to its place, which is how perceptual and style losses choose theirs.
"""

from __future__ import annotations

from torch import Tensor, nn

from cvtool.batch import Prepare
from cvtool.categories import numbered
from cvtool.checkpoint import prefixed
from cvtool.layers.batch_norm import BatchNorm
from cvtool.layers.classifier import Classifier
from cvtool.layers.head import pool

VARIANTS = {
    "16": {"convolutions": (2, 2, 3, 3, 3)},
    "11": {"convolutions": (1, 1, 2, 2, 2)},
    "13": {"convolutions": (2, 2, 2, 2, 2)},
    "19": {"convolutions": (2, 2, 4, 4, 4)},
    "16-bn": {"convolutions": (2, 2, 3, 3, 3), "batch_norm": True},
    "19-bn": {"convolutions": (2, 2, 4, 4, 4), "batch_norm": True},
    "tiny": {"convolutions": (1, 1, 2, 1, 1), "widths": (8, 12, 16, 24, 24), "hidden": 32, "image_size": 64, "batch_norm": True},
}
WEIGHTS = {
    "16@imagenet": {
        "url": "https://download.pytorch.org/models/vgg16-397923af.pth",
        "sha256": "397923af",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.71592, "top5": 0.90382},
    },
    "11@imagenet": {
        "url": "https://download.pytorch.org/models/vgg11-8a719046.pth",
        "sha256": "8a719046",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.6902, "top5": 0.88628},
    },
    "13@imagenet": {
        "url": "https://download.pytorch.org/models/vgg13-19584684.pth",
        "sha256": "19584684",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.69928, "top5": 0.89246},
    },
    "19@imagenet": {
        "url": "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        "sha256": "dcbb9e9d",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.72376, "top5": 0.90876},
    },
    "16-bn@imagenet": {
        "url": "https://download.pytorch.org/models/vgg16_bn-6c64b313.pth",
        "sha256": "6c64b313",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.7336, "top5": 0.91516},
    },
    "19-bn@imagenet": {
        "url": "https://download.pytorch.org/models/vgg19_bn-c79401a0.pth",
        "sha256": "c79401a0",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.74218, "top5": 0.91842},
    },
}
ALIASES = {
    "vgg16": "16", "vgg-16": "16", "vgg19": "19", "vgg-19": "19", "vgg11": "11", "vgg13": "13", "vgg16-bn": "16-bn", "vgg19-bn": "19-bn",
    "vgg16_bn": "16-bn", "vgg19_bn": "19-bn",
}  # fmt: skip
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "batch_size": 64,
    "epochs": 74,
    "schedule": "step",
    "augment": "resized-crop,flip,color",
    "variants": {"tiny": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "batch_size": 8, "schedule": "one-cycle", "augment": "flip"}},
}
WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """B 3 H W -> logits B K. convolutions, widths: of the five stages (the paper's table 1). layers: the paper's name of each layer -> its module's.

    head: flatten, the paper's (the map is averaged to 7 x 7 where it is another), gap or spp.
    """

    def __init__(self, classes: int, *, convolutions: tuple[int, ...], widths: tuple[int, ...], hidden: int, batch_norm: bool, head: str,
                 dropout: float) -> None:  # fmt: skip
        super().__init__()
        parts: list[nn.Module] = []
        self.layers: dict[str, str] = {}

        def add(name: str, module: nn.Module) -> None:
            self.layers[name] = f"features.{len(parts)}"
            parts.append(module)

        channels = 3
        for stage, (count, width) in enumerate(zip(convolutions, widths, strict=True), 1):
            for i in range(1, count + 1):
                add(f"conv{stage}_{i}", nn.Conv2d(channels, width, 3, padding=1))
                if batch_norm:
                    add(f"norm{stage}_{i}", BatchNorm(width))
                add(f"relu{stage}_{i}", nn.ReLU(inplace=True))
                channels = width
            add(f"pool{stage}", nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*parts)
        pooled, units = pool(head, channels, (7, 7))
        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d((7, 7)), pooled) if head == "flatten" else pooled
        self.classifier = nn.Sequential(
            nn.Linear(units, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(hidden, classes),
        )  # fmt: skip
        for module in self.modules():  # without normalisation, sixteen layers of torch's default initialisation do not learn
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01 if hidden >= 1024 else hidden**-0.5)
                nn.init.zeros_(module.bias)

    def pooled(self, images: Tensor) -> Tensor:
        """B 3 H W -> B `hidden`: fc7, what the last layer reads."""
        return self.classifier[:-1](self.avgpool(self.features(images)))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier[-1](self.pooled(images))


def build(
    *, classes: int, convolutions: tuple[int, ...] = (2, 2, 3, 3, 3), widths: tuple[int, ...] = WIDTHS, hidden: int = 4096, batch_norm: bool = False,
    head: str = "flatten", dropout: float = 0.5, image_size: int = 224,
) -> Classifier:  # fmt: skip
    """hidden: units of the two full layers. head: flatten, gap or spp."""
    net = VGG(classes, convolutions=tuple(convolutions), widths=tuple(widths), hidden=hidden, batch_norm=batch_norm, head=head, dropout=dropout)
    prepare = Prepare(resize="crop", size=image_size, crop_fraction=0.875 if image_size > 200 else 1.0)
    return Classifier(net, features=VGG.pooled, prepare=prepare, categories=numbered(classes))


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's file."""
    return prefixed(state, "net")
