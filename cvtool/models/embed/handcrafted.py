"""Handcrafted features: colour and gradient histograms as a vector (Swain 1991, doi:10.1007/BF00130487)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.ops import handcrafted
from cvtool.results import Embedding

VARIANTS = {"histograms": {}, "tiny": {"image_size": 32}}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
CATEGORIES: list = []
RECIPE: dict[str, object] = {}


class Handcrafted(nn.Module):
    """Nothing is learned."""

    result = Embedding

    def __init__(self, *, prepare: Prepare) -> None:
        super().__init__()
        self.prepare = prepare

    def forward(self, images: Tensor) -> Tensor:
        """B 3 H W in [0, 1] -> B 192."""
        return handcrafted.handcrafted(images.float())

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """B 192."""
        return self(batch.images)

    def predict(self, batch: Batch) -> list[Embedding]:
        return [Embedding(vector) for vector in self.embed(batch)]


def build(*, classes: int = 0, image_size: int = 128) -> Handcrafted:
    """Pictures are stretched to a square of `image_size`."""
    return Handcrafted(prepare=Prepare(resize="stretch", size=image_size, mean=(0.0,) * 3, std=(1.0,) * 3))
