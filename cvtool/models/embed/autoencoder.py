"""Autoencoder: a code much smaller than the picture, from which it is drawn again (Hinton 2006, doi:10.1126/science.1127647).

The encoder's blocks are those of `simple-cnn`, under the same names, so that a classifier goes on with them and the decoder is dropped:

    cvtool train -m autoencoder --data photos/ ;  cvtool train -m simple-cnn --data flowers/ --init runs/0007

Convolutions on the way in and, mirrored, on the way out (Masci 2011, doi:10.1007/978-3-642-21735-7_7); each step outwards doubles the maps by nearest
neighbour before it convolves, which leaves no checkerboard (Odena 2016, doi:10.23915/distill.00003).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError
from cvtool.layers.norm import norm as normalisation
from cvtool.models.classify.simple_cnn import Block
from cvtool.results import Embedding

if TYPE_CHECKING:
    from cvtool.losses import Criterion

VARIANTS = {
    "base": {"depth": 4, "width": 32, "dimensions": 128, "image_size": 64},
    "small": {"depth": 3, "width": 16, "dimensions": 32, "image_size": 32},
    "tiny": {"depth": 2, "width": 8, "dimensions": 16, "image_size": 32},
}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"ae": "base"}
RECIPE = {
    "step": "supervised",
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 1e-4,
    "batch_size": 64,
    "epochs": 50,
    "schedule": "one-cycle",
    "augment": "flip",
}


class Encoder(nn.Module):
    """B 3 H W -> B D."""

    def __init__(self, widths: list[int], dimensions: int, *, side: int, kernel: int, norm: str) -> None:
        super().__init__()
        pairs = pairwise([3, *widths])
        self.blocks = nn.Sequential(*(Block(a, b, kernel=kernel, stack=1, norm=norm, pool="max", activation="relu") for a, b in pairs))
        self.code = nn.Linear(widths[-1] * side**2, dimensions)

    def forward(self, images: Tensor) -> Tensor:
        return self.code(self.blocks(images).flatten(1))


class Decoder(nn.Module):
    """B D -> B 3 H W in [0, 1]."""

    def __init__(self, widths: list[int], dimensions: int, *, side: int, kernel: int, norm: str) -> None:
        super().__init__()
        self.shape = (widths[-1], side, side)
        self.open = nn.Sequential(nn.Linear(dimensions, widths[-1] * side**2), nn.ReLU())
        layers: list[nn.Module] = []
        for a, b in pairwise([*reversed(widths), widths[0]]):
            conv = nn.Conv2d(a, b, kernel, padding=kernel // 2, bias=norm == "none")
            layers += [nn.Upsample(scale_factor=2), conv, normalisation(norm, b), nn.ReLU()]
        self.blocks = nn.Sequential(*layers, nn.Conv2d(widths[0], 3, kernel, padding=kernel // 2), nn.Sigmoid())

    def forward(self, codes: Tensor) -> Tensor:
        return self.blocks(self.open(codes).unflatten(1, self.shape))


class Autoencoder(nn.Module):
    """It learns from pictures alone: to draw each as it is (mean squared error, or what `--loss` says of pictures)."""

    result = Embedding
    needs = ("pictures",)
    criterion_kind = "pictures"

    def __init__(self, net: Encoder, decoder: Decoder, *, prepare: Prepare) -> None:
        super().__init__()
        self.net, self.decoder, self.prepare = net, decoder, prepare
        self.criterion: Criterion | None = None

    def encode(self, images: Tensor) -> Tensor:
        """Pictures B 3 H W in [0, 1] -> codes B D."""
        return self.net(images)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes B D -> pictures B 3 H W in [0, 1]."""
        return self.decoder(codes)

    def forward(self, images: Tensor) -> Tensor:
        """B 3 H W in [0, 1] -> the same, drawn again."""
        return self.decode(self.encode(images))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The criterion's terms, or `l2`: what the drawing differs from the picture."""
        made = self(batch.images)
        if self.criterion is not None:
            return self.criterion(made, batch.images)
        return {"l2": (made - batch.images).square().mean()}

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """B D: the codes."""
        return self.encode(batch.images)

    def predict(self, batch: Batch) -> list[Embedding]:
        return [Embedding(code.float()) for code in self.embed(batch)]


def build(
    *, classes: int = 0, depth: int = 4, width: int = 32, dimensions: int = 128, kernel: int = 3, norm: str = "batch", image_size: int = 64
) -> Autoencoder:
    """depth: halvings of the picture. width: maps of the first block. dimensions: numbers of the code. kernel: odd side of the filters.

    Pictures are stretched to a square of `image_size`, which `depth` halvings must divide. Raises UsageError, also for a code that is not smaller
    than the picture.
    """
    if kernel % 2 == 0 or kernel < 1:
        raise UsageError(f"kernel={kernel} has no middle", hint="an odd number: 3, 5, 7")
    if depth < 1 or width < 1 or image_size < 1 or image_size % (1 << depth):
        raise UsageError(f"{image_size} pixels cannot be halved {depth} times", hint=f"an image_size that {1 << max(1, depth)} divides")
    if not 0 < dimensions < 3 * image_size**2:
        raise UsageError(f"a code of {dimensions} numbers is none for {3 * image_size**2} values", hint="dimensions is smaller than the picture")
    widths = [width << i for i in range(depth)]
    shape: dict[str, Any] = {"side": image_size >> depth, "kernel": kernel, "norm": norm}
    prepare = Prepare(resize="stretch", size=image_size, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Autoencoder(Encoder(widths, dimensions, **shape), Decoder(widths, dimensions, **shape), prepare=prepare)
