"""Two players on points of the plane: a GAN small enough that what it does can be seen, trained by the step `gan`."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from cvtool.batch import Batch


def _layers(inputs: int, outputs: int, width: int, depth: int) -> nn.Sequential:
    sizes = [inputs, *[width] * depth]
    parts = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*parts, nn.Linear(width, outputs))


class Points(nn.Module):
    """noise: numbers of z ~ N(0, 1). Linear layers with ReLU, `depth` of `width` units before the last, in both."""

    def __init__(self, *, noise: int = 2, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        self.noise = noise
        self.generator = _layers(noise, 2, width, depth)
        self.discriminator = _layers(2, 1, width, depth)

    def generate(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        """z B Z -> points B 2."""
        return self.generator(z)

    def judge(self, points: Tensor, classes: Tensor | None = None) -> Tensor:
        """Points B 2 -> logits B, above 0 where they look real."""
        return self.discriminator(points)[:, 0]

    def drawn(self, count: int) -> Tensor:
        """`count` latents, `count` Z, from torch's global generator."""
        return torch.randn(count, self.noise)

    def classes_of(self, batch: Batch) -> None:
        """There are none."""
