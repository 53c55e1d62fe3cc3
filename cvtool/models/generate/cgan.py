"""cGAN: both players of a GAN are told the class, so that one can be asked for (Mirza 2014, arXiv:1411.1784).

Generator: z and the class (K numbers, one of them 1) go through a ReLU layer each, of 200 and 1000 numbers, are concatenated, and through a third
of 1200 to all values of a picture. Discriminator: the picture and the class through a maxout layer each, of 240 numbers of 5 pieces and 50 of 5,
concatenated, through a third of 240 of 4 pieces, to one number (section 4.1). `small` and `tiny` have a share of each width.

    cvtool train -m cgan --data digits/ -o runs && cvtool generate -m runs/0001 --class 3 -n 8 -o threes/

What else conditions are for: the one may be a picture (translation, restoration, filling in), and between two classes lies a way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.errors import UsageError
from cvtool.layers.activation import activation as activated
from cvtool.models.generate._players import Players, spread, values

VARIANTS = {
    "base": {"image_size": 32, "width": 1200, "noise": 100},
    "small": {"image_size": 28, "width": 600, "noise": 64},
    "tiny": {"image_size": 16, "width": 180, "noise": 16},
}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
RECIPE = {
    "step": "gan",
    "optimizer": "adam:beta1=0.5",
    "lr": 2e-4,
    "weight_decay": 0.0,
    "batch_size": 64,
    "epochs": 200,
    "schedule": "constant",
    "augment": "none",
    "clip": 0.0,
}


class Joined(nn.Module):
    """Two vectors B A and B K through a layer each, concatenated, through a third, and bare to B outputs. kind: an activation of `pieces` pieces."""

    def __init__(self, inputs: tuple[int, int], widths: tuple[int, int, int], outputs: int, *, kind: str, pieces: tuple[int, int, int]) -> None:
        super().__init__()
        (a, b), (first, second, third), (p, q, r) = inputs, widths, pieces

        def layer(i: int, o: int, k: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(i, o * k), activated(f"{kind}:{k}" if kind == "maxout" else kind))

        self.first, self.second = layer(a, first, p), layer(b, second, q)
        self.third, self.last = layer(first + second, third, r), nn.Linear(third, outputs)
        spread(self)
        nn.init.normal_(self.second[0].weight, 0.0, 2**0.5)  # type: ignore[arg-type]  # one of its inputs is 1 and all others are 0

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        return self.last(self.third(torch.cat([self.first(x), self.second(told)], 1)))


class CGAN(Players):
    """Pictures of `size` x `size` of `classes` classes. width: of the generator's joint layer; all others keep their share of it."""

    def __init__(self, *, classes: int, size: int, width: int, noise: int, latent: str, range: Sequence[float]) -> None:
        low, high, squashed = values(range)
        super().__init__(size=size, noise=noise, latent=latent, low=low, high=high, conditional=classes)
        shares = [max(1, width * share // 1200) for share in (200, 1000, 1200, 240, 50, 240)]
        self.squash = activated(squashed)
        self.generator = Joined((noise, classes), tuple(shares[:3]), 3 * size**2, kind="relu", pieces=(1, 1, 1))  # type: ignore[arg-type]
        self.discriminator = Joined((3 * size**2, classes), tuple(shares[3:]), 1, kind="maxout", pieces=(5, 5, 4))  # type: ignore[arg-type]

    def generate(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        return self.squash(self.generator(z, self.told(classes).to(z))).unflatten(1, (3, self.size, self.size))

    def judge(self, pictures: Tensor, classes: Tensor | None = None) -> Tensor:
        return self.discriminator(pictures.flatten(1), self.told(classes).to(pictures)).flatten(0)

    def told(self, classes: Tensor | None) -> Tensor:
        """B int64 -> B K, one of them 1. Raises ValueError for none."""
        if classes is None:
            raise ValueError("both players are told the class")
        return F.one_hot(classes, self.conditional)


def build(
    *, classes: int = 2, image_size: int = 32, width: int = 1200, noise: int = 100, latent: str = "gaussian", range: tuple[int, ...] = (-1, 1)
) -> CGAN:
    """image_size: side of the pictures, which are scaled, and their middle cut out. width: of the joint layer. noise: numbers of z. latent: gaussian,
    sphere or uniform. range: of the pictures' values, -1,1 (tanh) or 0,1 (sigmoid). Raises UsageError.
    """
    if image_size < 1 or width < 1:
        raise UsageError(f"image_size={image_size} and width={width} are 1 at least")
    return CGAN(classes=classes, size=image_size, width=width, noise=noise, latent=latent, range=range)
