"""What generators with a rival share: how z is drawn, what values pictures have, and what a discriminator is asked.

Switches against unstable training (Chintala 2016, github.com/soumith/ganhacks): pictures in [-1, 1] behind a tanh or in [0, 1] behind a sigmoid
(1), a spherical z (3), leaky activations, average pooling and transposed convolutions for dense gradients (5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError, did_you_mean
from cvtool.losses import _gan
from cvtool.models.generate._latents import Latents, gaussian
from cvtool.results import Picture

KINDS = ("gaussian", "sphere", "uniform")


class Players(Latents):
    """A generator and a discriminator, modules of these names that a child makes, with `generate` and `judge`.

    size: side of the pictures. noise: Z, numbers of z. latent: gaussian, z ~ N(0, 1); sphere, the same brought to length sqrt(Z); uniform, each
    number in [-1, 1]. low, high: the values that pictures have for both players. conditional: how many classes both are told of, 0 for none.
    The step `gan` trains it and says by `form` what is lost. Raises UsageError.
    """

    result = Picture
    rivals = True
    form = "non-saturating"
    generator: nn.Module
    discriminator: nn.Module

    def __init__(self, *, size: int, noise: int, latent: str, low: float, high: float, conditional: int) -> None:
        super().__init__()
        if latent not in KINDS:
            raise UsageError(f"unknown latent '{latent}'", hint=did_you_mean(latent, KINDS) or "latent: " + ", ".join(KINDS))
        if noise < 1:
            raise UsageError(f"noise={noise}: z has one number at least")
        self.size, self.noise, self.latent, self.low, self.high, self.conditional = size, noise, latent, low, high, conditional
        self.prepare = preparing(size, low, high)
        self.latent_shape = (noise,)
        self.needs = ("pictures", "labels") if conditional else ("pictures",)

    def generate(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        """z B Z (and classes B int64) -> pictures B 3 H W between low and high."""
        raise TypeError(f"{type(self).__name__} generates nothing")

    def judge(self, pictures: Tensor, classes: Tensor | None = None) -> Tensor:
        """Pictures B 3 H W between low and high (and classes B int64) -> numbers B, not squashed: larger where they look more real."""
        raise TypeError(f"{type(self).__name__} judges nothing")

    def drawn(self, count: int) -> Tensor:
        """`count` latents, `count` Z, from torch's global generator."""
        device = next(self.generator.parameters()).device
        if self.latent == "uniform":
            return 2 * torch.rand(count, self.noise, device=device) - 1
        return self._shaped(torch.randn(count, self.noise, device=device))

    def latents(self, n: int, seed: int, start: int = 0) -> Tensor:
        """The codes of the samples start, start + 1 ...: n Z, float32 on the CPU."""
        if self.latent == "uniform":
            codes = [np.random.default_rng((seed, start + i)).uniform(-1, 1, self.noise).astype(np.float32) for i in range(n)]
            return torch.from_numpy(np.stack(codes)) if codes else torch.empty(0, self.noise)
        return self._shaped(gaussian(self.latent_shape, n, seed, start))

    def _shaped(self, z: Tensor) -> Tensor:
        return nn.functional.normalize(z, dim=1) * self.noise**0.5 if self.latent == "sphere" else z

    def classes_of(self, batch: Batch) -> Tensor | None:
        """The classes B of a batch's pictures, None where they do not count."""
        return torch.cat([target.labels[:1] for target in batch.targets or []]) if self.conditional else None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """What both players lose on a batch: for looking at; the step takes them apart."""
        classes, lost = self.classes_of(batch), _gan.form(self.form)
        scores = self.judge(self.generate(self.drawn(len(batch)), classes), classes)
        told = self.judge(batch.images, classes)
        return {"d_real": lost.judging(told, True), "d_made": lost.judging(scores, False), "adversarial": lost.deceiving(scores)}

    def decoded(self, z: Tensor, classes: Tensor | None) -> Tensor:
        """z B Z (and classes B int64) -> pictures B 3 H W in [0, 1]."""
        return (self.generate(z, classes).float() - self.low) / (self.high - self.low)


def spread(model: nn.Module) -> None:
    """Linear layers start at N(0, 2 / inputs), biases at 0 (He 2015, arXiv:1502.01852): with torch's own start a deep layer hardly sees z at all, and
    what a generator makes of every z is the same."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)


def values(range: Sequence[float]) -> tuple[float, float, Literal["tanh", "sigmoid"]]:
    """(low, high, what squashes a generator's output to them) for -1,1 or 0,1. Raises UsageError."""
    pair = tuple(float(value) for value in range)
    if pair == (-1, 1):
        return -1.0, 1.0, "tanh"
    if pair == (0, 1):
        return 0.0, 1.0, "sigmoid"
    raise UsageError(f"range is -1,1 (tanh) or 0,1 (sigmoid), not {','.join(f'{value:g}' for value in pair)}")


def preparing(image_size: int, low: float, high: float) -> Prepare:
    """Pictures scaled, their middle cut out, with values between low and high."""
    return Prepare(resize="crop", size=image_size, mean=((0 - low) / (high - low),) * 3, std=(1 / (high - low),) * 3)
