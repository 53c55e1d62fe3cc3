"""VAE: a code with a known distribution, so that drawing a code draws a picture, and each picture has a code (Kingma 2013, arXiv:1312.6114).

The encoder gives mean and variance of q(z|x), a diagonal Gaussian; a code is drawn from it as mu + sigma eps (eq. 10); the decoder gives the
distribution of the picture, p(x|z): mean and variance of every value (`gaussian`, appendix C.2), or for pictures in black and white the probability
of light, whose variance is m (1 - m) (`bernoulli`, appendix C.1). What is maximised is the lower bound

    ln p(x) >= ELBO = E_q ln p(x|z) - KL(q(z|x) || N(0, 1)),

in which the other divergence of the exact ln p(x), KL(q(z|x) || p(z|x)), is left out because it is not below 0 and nobody can compute it. `beta`
weighs the KL (Higgins 2017, openreview Sy2fzU9gl): above 1 the numbers of a code part, below 1 pictures are sharper.

    cvtool train -m vae --data photos/ --beta 4 ;  cvtool generate -m runs/0001 -n 64 -o made/ ;  cvtool embed photos/ -m runs/0001 -o codes.npz
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError
from cvtool.layers.gray import Gray
from cvtool.layers.norm import norm as normalisation
from cvtool.losses.gaussian_kl import gaussian_kl
from cvtool.models.generate._latents import Latents
from cvtool.results import Picture

VARIANTS = {
    "base": {"image_size": 64, "width": 32, "depth": 4, "latent": 128, "likelihood": "gaussian"},
    "small": {"image_size": 32, "width": 32, "depth": 3, "latent": 32, "likelihood": "bernoulli", "gray": True},
    "tiny": {"image_size": 16, "width": 8, "depth": 2, "latent": 8, "likelihood": "gaussian"},
}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"beta-vae": "base"}
VERBS = ("generate", "embed")
RECIPE = {
    "step": "supervised",
    "optimizer": "adam",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "batch_size": 64,
    "epochs": 50,
    "schedule": "one-cycle",
    "augment": "flip",
    "clip": 1000.0,  # losses are nats a picture
    "variants": {"small": {"augment": "none", "lr": 2e-3}},  # a letter in a mirror is none
}
LEAST, MOST = -6.0, 2.0  # ln of the variance of a value in [0, 1]: from 13 of 255 steps on, below which no detail is believed


class Encoder(nn.Module):
    """B C H W in [0, 1] -> mean and ln of the variance of q(z|x), B D each."""

    def __init__(self, channels: int, widths: Sequence[int], features: int, latent: int, norm: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in pairwise([channels, *widths]):
            layers += [nn.Conv2d(a, b, 4, 2, 1, bias=norm == "none"), normalisation(norm, b), nn.LeakyReLU(0.2, inplace=True)]
        self.blocks = nn.Sequential(*layers, nn.Flatten())
        self.code = nn.Linear(features, 2 * latent)

    def forward(self, images: Tensor, told: Tensor | None) -> tuple[Tensor, Tensor]:
        found = self.blocks(images * 2 - 1)
        mean, logvar = self.code(found if told is None else torch.cat([found, told], 1)).chunk(2, 1)
        return mean, logvar


class Decoder(nn.Module):
    """B D -> B C H W of p(x|z), before the sigmoid of the mean; `gaussian` has as many channels again, for the variance."""

    def __init__(self, widths: Sequence[int], side: int, latent: int, channels: int, norm: str) -> None:
        super().__init__()
        self.shape = (widths[-1], side, side)
        self.open = nn.Sequential(nn.Linear(latent, widths[-1] * side**2), nn.ReLU(inplace=True))
        layers: list[nn.Module] = []
        for a, b in pairwise([*reversed(widths), widths[0]]):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(a, b, 3, padding=1, bias=norm == "none"), normalisation(norm, b), nn.ReLU(inplace=True)]
        self.blocks = nn.Sequential(*layers, nn.Conv2d(widths[0], channels, 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        return self.blocks(self.open(z).unflatten(1, self.shape))


class VAE(Latents):
    """beta: weight of the KL. conditional: how many classes both halves are told of, 0 for none (Sohn 2015, proceedings.neurips.cc 8d55a249)."""

    result = Picture

    def __init__(
        self, *, image_size: int, width: int, depth: int, latent: int, gaussian: bool, gray: bool, beta: float, conditional: int, norm: str,
        prepare: Prepare,
    ) -> None:  # fmt: skip
        super().__init__()
        self.gaussian, self.beta, self.conditional, self.prepare = gaussian, beta, conditional, prepare
        self.latent_shape = (latent,)
        self.needs = ("pictures", "labels") if conditional else ("pictures",)
        self.channels = 1 if gray else 3
        self.gray = Gray() if gray else nn.Identity()
        widths, side = [width << i for i in range(depth)], image_size >> depth
        told = min(conditional, 16)
        self.classes = nn.Embedding(conditional, told) if conditional else None
        self.encoder = Encoder(self.channels, widths, widths[-1] * side**2 + told, latent, norm)
        self.decoder = Decoder(widths, side, latent + told, self.channels * (2 if gaussian else 1), norm)

    def _told(self, classes: Tensor | None) -> Tensor | None:
        return None if self.classes is None else self.classes(classes)

    def classes_of(self, batch: Batch) -> Tensor | None:
        """The classes B of a batch's pictures, None where they do not count."""
        return torch.cat([target.labels[:1] for target in batch.targets or []]) if self.conditional else None

    def encode(self, images: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """B 3 H W in [0, 1] (and classes B int64) -> mean and ln of the variance of q(z|x), B D each."""
        mean, logvar = self.encoder(self.gray(images), self._told(classes))
        return mean.float(), logvar.float()  # both terms of the bound are sums of many small differences

    def decode(self, z: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Codes B D (and classes B int64) -> what `nll` takes, B C H W: logits of the mean, and ln of the variance (`bernoulli`: its own)."""
        told = self._told(classes)
        raw = self.decoder(z if told is None else torch.cat([z, told], 1)).float()
        if self.gaussian:
            logits, spread = raw.chunk(2, 1)
            return logits, LEAST + (MOST - LEAST) * torch.sigmoid(spread)
        return raw, F.logsigmoid(raw) + F.logsigmoid(-raw)

    def nll(self, images: Tensor, logits: Tensor, logvar: Tensor) -> Tensor:
        """-ln p(x|z) of pictures B C H W in [0, 1] -> B, in nats: the sum over all values."""
        if not self.gaussian:
            return F.binary_cross_entropy_with_logits(logits, images, reduction="none").sum((1, 2, 3))
        squared = (images - logits.sigmoid()).square() * torch.exp(-logvar)
        return 0.5 * (squared + logvar + math.log(2 * math.pi)).sum((1, 2, 3))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`nll`, -E ln p(x|z) by one draw of z, and `kl`, beta times the divergence; nats a picture, -ELBO together where beta is 1."""
        classes = self.classes_of(batch)
        mean, logvar = self.encode(batch.images, classes)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        return {"nll": self.nll(self.gray(batch.images), *self.decode(z, classes)).mean(), "kl": self.beta * gaussian_kl(mean, logvar).mean()}

    @torch.no_grad()
    def elbo(self, batch: Batch) -> Tensor:
        """The lower bound of ln p(x), B, in nats, by one draw of z; of values as densities (`gaussian`) or as probabilities (`bernoulli`)."""
        classes = self.classes_of(batch)
        mean, logvar = self.encode(batch.images, classes)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        return -self.nll(self.gray(batch.images), *self.decode(z, classes)) - gaussian_kl(mean, logvar)

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """B D: the mean of q(z|x). A model that is told classes takes the mean of its classes' embeddings for the picture's."""
        images = self.gray(batch.images)
        told = None if self.classes is None else self.classes.weight.mean(0).expand(len(images), -1)
        return self.encoder(images, told)[0]

    def codes_of(self, images: Tensor, seed: int = 0, start: int = 0) -> Tensor:
        """Pictures as the model sees them, n 3 H W in [0, 1] -> the mean of q(z|x), n D, on the CPU; the seed counts nothing."""
        return self.embed(Batch(images, torch.zeros(len(images), *images.shape[2:], dtype=torch.bool), [])).float().cpu()

    def decoded(self, z: Tensor, classes: Tensor | None) -> Tensor:
        """The mean of p(x|z), B 3 H W in [0, 1]."""
        return self.decode(z, classes)[0].sigmoid().expand(-1, 3, -1, -1)

    @torch.no_grad()
    def sample(self, n: int, seed: int, classes: Sequence[int] | None = None, *, start: int = 0, temperature: float = 0.0) -> Tensor:
        """n 3 H W in [0, 1], of z ~ N(0, 1). temperature: of the draw from p(x|z): 0 its mean, 1 a picture with all its noise.

        The i-th picture depends on (seed, start + i) and its class alone. Raises ValueError.
        """
        z = self.latents(n, seed, start)
        if not temperature:
            return self.decode_latents(z, classes)
        means = self.decode_latents(z, classes)
        drawn = []
        for i in range(n):
            given = None if classes is None else torch.as_tensor(classes[i : i + 1], device=next(self.parameters()).device)
            _, logvar = self.decode(z[i : i + 1].to(next(self.parameters()).device), given)
            noise = np.random.default_rng((seed, start + i, 1)).standard_normal(tuple(logvar.shape[1:]), np.float32)
            drawn.append(torch.exp(0.5 * logvar[0].float()) * torch.from_numpy(noise).to(logvar.device))
        return (means + temperature * torch.stack(drawn)).clamp(0, 1)


def build(
    *, classes: int = 0, image_size: int = 64, width: int = 32, depth: int = 4, latent: int = 128, likelihood: str = "gaussian", gray: bool = False,
    beta: float = 1.0, conditional: bool = False, norm: str = "batch",
) -> VAE:  # fmt: skip
    """image_size: side of the square that pictures are stretched to. width: maps of the first block. depth: halvings. latent: numbers of a code.
    likelihood: gaussian or bernoulli. gray: one channel is learned. beta: weight of the KL. conditional: tell both halves the class. norm: in both.

    Raises UsageError.
    """
    if depth < 1 or width < 1 or image_size < 1 or image_size % (1 << depth):
        raise UsageError(f"{image_size} pixels cannot be halved {depth} times", hint=f"an image_size that {1 << max(1, depth)} divides")
    if likelihood not in ("gaussian", "bernoulli"):
        raise UsageError(f"unknown likelihood '{likelihood}'", hint="gaussian or bernoulli")
    if latent < 1 or beta < 0:
        raise UsageError("a code holds at least one number" if latent < 1 else f"beta is not below 0: {beta:g}")
    prepare = Prepare(resize="stretch", size=image_size, mean=(0.0,) * 3, std=(1.0,) * 3)
    told = classes if conditional else 0
    return VAE(
        image_size=image_size, width=width, depth=depth, latent=latent, gaussian=likelihood == "gaussian", gray=gray, beta=beta, conditional=told,
        norm=norm, prepare=prepare,
    )  # fmt: skip
