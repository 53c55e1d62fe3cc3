"""Simple CNN: blocks of convolution, normalisation, ReLU and pooling, each half as large, twice as wide (LeCun 1998, doi:10.1109/5.726791).

The order Conv -> BN -> ReLU -> MaxPool and the preference for stacks of small kernels (Simonyan 2014, arXiv:1409.1556, section 2.3): three 3 x 3
convolutions see what one of 7 x 7 sees, with 27 C^2 weights instead of 49 C^2, and three non-linearities instead of one.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from cvtool.batch import Prepare
from cvtool.categories import numbered
from cvtool.errors import UsageError
from cvtool.layers.activation import activation as activation_of
from cvtool.layers.activation import pieces
from cvtool.layers.classifier import Classifier
from cvtool.layers.head import pool as pooling
from cvtool.layers.norm import norm as normalisation
from cvtool.layers.pooling import Down

VARIANTS = {"base": {"depth": 4, "width": 32}, "tiny": {"depth": 2, "width": 8, "image_size": 32}}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"simplecnn": "base"}
RECIPE = {
    "step": "supervised",
    "optimizer": "adamw",
    "lr": 3e-3,
    "weight_decay": 0.01,
    "batch_size": 64,
    "epochs": 30,
    "schedule": "one-cycle",
    "augment": "flip,crop",
}


class Block(nn.Sequential):
    """`stack` times Conv -> norm -> activation, then pooling: B C H W -> B C' H/2 W/2."""

    def __init__(self, channels: int, width: int, *, kernel: int, stack: int, norm: str, pool: str, activation: str = "relu") -> None:
        layers: list[nn.Module] = []
        made = width * pieces(activation)
        for _ in range(stack):
            conv = nn.Conv2d(channels, made, kernel, padding=kernel // 2, bias=norm == "none")
            layers += [conv, normalisation(norm, made), activation_of(activation)]
            channels = width
        super().__init__(*layers, *([] if pool == "none" else [Down(pool, width)]))


class SimpleCNN(nn.Module):
    """B 3 H W -> logits B K, of any size of at least 2^depth."""

    def __init__(
        self, classes: int, *, depth: int, kernel: int, width: int, stack: int, norm: str, pool: str, head: str, activation: str, side: int
    ) -> None:
        super().__init__()
        widths = [3, *(width << i for i in range(depth))]
        self.blocks = nn.Sequential(
            *(Block(a, b, kernel=kernel, stack=stack, norm=norm, pool=pool, activation=activation) for a, b in pairwise(widths))
        )
        last = side if pool == "none" else side >> depth
        self.pool, features = pooling(head, widths[-1], (last, last))
        self.fc = nn.Linear(features, classes)

    def pooled(self, images: Tensor) -> Tensor:
        return self.pool(self.blocks(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.pooled(images))


def build(
    *, classes: int, depth: int = 4, kernel: int = 3, width: int = 32, stack: int = 1, norm: str = "batch", pool: str = "max", head: str = "gap",
    activation: str = "relu", image_size: int = 64,
) -> Classifier:  # fmt: skip
    """depth: blocks. kernel: odd side of the filters. width: maps of the first block. stack: convolutions a block.

    norm, pool, head, activation: by name.

    Raises UsageError for an even kernel or pictures that `depth` poolings would leave empty.
    """
    if kernel % 2 == 0 or kernel < 1:
        raise UsageError(f"kernel={kernel} has no middle", hint="an odd number: 3, 5, 7")
    if pool != "none" and image_size >> depth < 1:
        raise UsageError(f"{depth} poolings leave nothing of {image_size} pixels", hint="a smaller depth or a larger image_size")
    net = SimpleCNN(
        classes, depth=depth, kernel=kernel, width=width, stack=stack, norm=norm, pool=pool, head=head, activation=activation, side=image_size
    )
    return Classifier(net, features=SimpleCNN.pooled, prepare=Prepare(resize="stretch", size=image_size), categories=numbered(classes))
