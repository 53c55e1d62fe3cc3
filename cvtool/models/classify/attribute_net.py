"""Attribute net: DCGAN's discriminator with a head of classes, for attributes of pictures (Radford 2015, arXiv:1511.06434).

Its layers are those of the judge of `dcgan`, layer for layer, but for the last, which has an output for each class: where a generator's latents are
judged for separability, an attribute's classifier has the judge's architecture (Karras 2019, arXiv:1812.04948, section 4.2). One class for the
attribute and one for its absence make it binary.
"""

from __future__ import annotations

from torch import Tensor, nn

from cvtool.batch import Prepare
from cvtool.categories import numbered
from cvtool.errors import UsageError
from cvtool.layers.classifier import Classifier
from cvtool.models.generate.dcgan import Discriminator

VARIANTS = {
    "base": {"image_size": 64, "width": 64},
    "small": {"image_size": 32, "width": 32},
    "tiny": {"image_size": 16, "width": 8},
}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"attribute-classifier": "base", "discriminator-classifier": "base"}
RECIPE = {
    "step": "supervised",
    "optimizer": "adam:beta1=0.5",
    "lr": 2e-4,
    "weight_decay": 0.0,
    "batch_size": 128,
    "epochs": 30,
    "schedule": "constant",
    "augment": "flip",
    "variants": {"tiny": {"optimizer": "adamw", "lr": 3e-3, "batch_size": 8}},
}


class Judge(nn.Module):
    """B 3 H W in [-1, 1] -> logits B K: at its own size the last map is one place, of larger pictures it is the mean over the places."""

    def __init__(self, classes: int, widths: list[int]) -> None:
        super().__init__()
        layers = list(Discriminator(3, widths))[:-2]  # without the convolution to one number
        self.features = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1], classes, 4, 1, 0, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images)).mean((2, 3))


def build(*, classes: int, image_size: int = 64, width: int = 64) -> Classifier:
    """image_size: a power of two, 8 at least. width: maps of the first layer. Raises UsageError."""
    if image_size < 8 or image_size & (image_size - 1):
        raise UsageError(f"image_size={image_size} is no power of two from 8 on", hint="such as 32, 64 or 128")
    widths = [width << i for i in range((image_size // 4).bit_length() - 1)]
    prepare = Prepare(resize="crop", size=image_size, mean=(0.5,) * 3, std=(0.5,) * 3)
    return Classifier(Judge(classes, widths), features=lambda net, x: net.features(x).flatten(1), prepare=prepare, categories=numbered(classes))
