"""AlexNet: five convolutions, three full layers, ReLU and dropout, deep learning's first ImageNet (Krizhevsky 2012, doi:10.1145/3065386).

`one-tower` is torchvision's layout, that of Krizhevsky's later paper (2014, arXiv:1404.5997), and loads torchvision's weights. `original` is the
network of 2012 for pictures of 227 with local response normalisation: `groups=2` as it ran on two cards, `groups=1` as it is usually counted.
"""

from __future__ import annotations

from torch import Tensor, nn

from cvtool.batch import Prepare
from cvtool.categories import numbered
from cvtool.checkpoint import prefixed
from cvtool.errors import UsageError
from cvtool.layers.classifier import Classifier
from cvtool.layers.head import pool

ONE_TOWER = (64, 192, 384, 256, 256)
ORIGINAL = (96, 256, 384, 384, 256)
VARIANTS = {
    "one-tower": {},
    "original": {"layout": "original"},
    "original-grouped": {"layout": "original", "groups": 2},
    "tiny": {"widths": (8, 16, 16, 16, 16), "hidden": 32, "image_size": 64},
}
WEIGHTS = {
    "one-tower@imagenet": {
        "url": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "sha256": "7be5be79",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.56522, "top5": 0.79066},
    },
}
ALIASES: dict[str, str] = {}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "batch_size": 128,
    "epochs": 90,
    "schedule": "step",
    "augment": "resized-crop,flip,color",
    "variants": {"tiny": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "batch_size": 8, "schedule": "one-cycle", "augment": "flip"}},
}


class AlexNet(nn.Module):
    """B 3 H W -> logits B K; the map before the full layers is averaged to 6 x 6, as it is for pictures of the paper's size anyway.

    head: flatten, the paper's, gap or spp.
    """

    def __init__(
        self, classes: int, *, widths: tuple[int, ...], hidden: int, groups: int, original: bool, dropout: float, head: str = "flatten"
    ) -> None:
        super().__init__()
        a, b, c, d, e = widths
        # section 3.3: n = 5, k = 2, alpha = 1e-4, beta = .75; torch divides alpha by n
        lrn = [nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)] if original else []
        self.features = nn.Sequential(
            nn.Conv2d(3, a, 11, stride=4, padding=0 if original else 2), nn.ReLU(inplace=True), *lrn, nn.MaxPool2d(3, 2),
            nn.Conv2d(a, b, 5, padding=2, groups=groups), nn.ReLU(inplace=True), *lrn, nn.MaxPool2d(3, 2),
            nn.Conv2d(b, c, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(c, d, 3, padding=1, groups=groups), nn.ReLU(inplace=True),
            nn.Conv2d(d, e, 3, padding=1, groups=groups), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        pooled, units = pool(head, e, (6, 6))
        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d((6, 6)), pooled) if head == "flatten" else pooled
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(units, hidden), nn.ReLU(inplace=True),
            nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, classes),
        )  # fmt: skip

    def pooled(self, images: Tensor) -> Tensor:
        """B 3 H W -> B `hidden`, what the last layer reads."""
        return self.classifier[:-1](self.avgpool(self.features(images)))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier[-1](self.pooled(images))


def build(
    *, classes: int, layout: str = "one-tower", groups: int = 1, widths: tuple[int, ...] | None = None, hidden: int = 4096, dropout: float = 0.5,
    head: str = "flatten", image_size: int | None = None,
) -> Classifier:  # fmt: skip
    """layout: one-tower or original. groups: of the second, fourth and fifth convolution, 2 as in the paper.

    head: flatten, gap or spp. Raises UsageError for others.
    """
    if layout not in ("one-tower", "original"):
        raise UsageError(f"unknown layout '{layout}'", hint="one-tower or original")
    original = layout == "original"
    chosen = tuple(widths or (ORIGINAL if original else ONE_TOWER))
    if any(width % groups for width in chosen):
        raise UsageError(f"groups={groups} does not divide the widths {chosen}")
    net = AlexNet(classes, widths=chosen, hidden=hidden, groups=groups, original=original, dropout=dropout, head=head)
    size = image_size or (227 if original else 224)
    prepare = Prepare(resize="crop", size=size, crop_fraction=size / (256 if size > 200 else size))
    return Classifier(net, features=AlexNet.pooled, prepare=prepare, categories=numbered(classes))


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's file."""
    return prefixed(state, "net")
