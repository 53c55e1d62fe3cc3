"""DCGAN: pictures out of noise, by convolutions that double them, against a mirrored critic (Radford 2015, arXiv:1511.06434).

Generator, of z ~ N(0, 1) as 100 x 1 x 1: transposed convolutions 4 x 4 to 512 x 4 x 4, 256 x 8 x 8, 128 x 16 x 16, 64 x 32 x 32, 3 x 64 x 64, the
last with tanh, all others with BN and ReLU; 3,576,704 parameters. Discriminator: convolutions 4 x 4, stride 2, to 64, 128, 256, 512 maps, LeakyReLU
0.2, BN on all but the first, and one to a single number; 2,765,568. No layer has a bias. Other sizes have fewer or more of the doublings.

conditional: the class goes to both as one of K planes or numbers that is 1 (Mirza 2014, arXiv:1411.1784).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError
from cvtool.layers.norm import norm as normalisation
from cvtool.layers.pooling import Down
from cvtool.losses.adversarial import adversarial
from cvtool.results import Picture

VARIANTS = {
    "base": {"image_size": 64, "width": 64, "noise": 100},
    "small": {"image_size": 32, "width": 32, "noise": 64},
    "tiny": {"image_size": 16, "width": 8, "noise": 16},
}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
RECIPE = {
    "step": "gan",
    "optimizer": "adam:beta1=0.5",
    "lr": 2e-4,
    "weight_decay": 0.0,
    "batch_size": 128,
    "epochs": 100,
    "schedule": "constant",
    "augment": "flip",
    "clip": 0.0,
}
CHUNK = 64  # pictures that `sample` makes at a time


class Generator(nn.Sequential):
    """B Z 1 1 -> B 3 H W in [-1, 1]."""

    def __init__(self, noise: int, widths: Sequence[int], norm: str = "batch") -> None:
        layers = [nn.ConvTranspose2d(noise, widths[0], 4, 1, 0, bias=False), normalisation(norm, widths[0]), nn.ReLU(inplace=True)]
        for a, b in pairwise(widths):
            layers += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), normalisation(norm, b), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1, bias=False), nn.Tanh())


def halving(inputs: int, outputs: int, down: str) -> list[nn.Module]:
    """The paper's 4 x 4 convolution of stride 2 (`stride`), or a 3 x 3 one and a pooling (`max`, `avg`): what it replaced (section 3)."""
    if down == "stride":
        return [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)]
    return [nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), Down(down, outputs)]


class Discriminator(nn.Sequential):
    """B C H W -> logits B: how real a picture looks."""

    def __init__(self, channels: int, widths: Sequence[int], down: str = "stride", norm: str = "batch") -> None:
        layers = [*halving(channels, widths[0], down), nn.LeakyReLU(0.2, inplace=True)]
        for a, b in pairwise(widths):
            layers += [*halving(a, b, down), normalisation(norm, b), nn.LeakyReLU(0.2, inplace=True)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False), nn.Flatten(0))


class DCGAN(nn.Module):
    """Two players. noise: numbers of z. conditional: how many classes both are told of, 0 for none.

    The step `gan` trains it; what it asks of a model is `generate`, `judge`, `drawn`, `classes_of` and the modules generator and discriminator.
    """

    result = Picture
    rivals = True

    def __init__(self, *, size: int, width: int, noise: int, conditional: int, prepare: Prepare, down: str = "stride", norm: str = "batch") -> None:
        super().__init__()
        doublings = (size // 4).bit_length() - 1
        widths = [width << i for i in range(doublings)]
        self.noise, self.conditional, self.prepare = noise, conditional, prepare
        self.needs = ("pictures", "labels") if conditional else ("pictures",)
        self.generator = Generator(noise + conditional, widths[::-1], norm)
        self.discriminator = Discriminator(3 + conditional, widths, down, norm)
        self.apply(_initialise)

    def generate(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        """z B Z (and classes B int64) -> pictures B 3 H W in [-1, 1]."""
        told = z if classes is None else torch.cat([z, F.one_hot(classes, self.conditional).to(z)], 1)
        return self.generator(told[:, :, None, None])

    def judge(self, pictures: Tensor, classes: Tensor | None = None) -> Tensor:
        """Pictures B 3 H W in [-1, 1] (and classes B int64) -> logits B, above 0 where they look real."""
        if classes is None:
            return self.discriminator(pictures)
        planes = F.one_hot(classes, self.conditional).to(pictures)[:, :, None, None].expand(-1, -1, *pictures.shape[2:])
        return self.discriminator(torch.cat([pictures, planes], 1))

    def drawn(self, count: int) -> Tensor:
        """`count` latents, `count` Z, from torch's global generator."""
        return torch.randn(count, self.noise, device=self.generator[0].weight.device)  # type: ignore[arg-type]

    def classes_of(self, batch: Batch) -> Tensor | None:
        """The classes B of a batch's pictures, None where they do not count."""
        return torch.cat([target.labels[:1] for target in batch.targets or []]) if self.conditional else None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """What both players lose on a batch: for looking at; the step takes them apart."""
        classes = self.classes_of(batch)
        scores = self.judge(self.generate(self.drawn(len(batch)), classes), classes)
        told = self.judge(batch.images, classes)
        return {"d_real": adversarial(told, True), "d_made": adversarial(scores, False), "adversarial": adversarial(scores, True)}

    @torch.no_grad()
    def sample(self, n: int, seed: int, classes: Sequence[int] | None = None) -> Tensor:
        """n 3 H W in [0, 1]; the i-th picture depends on (seed, i) and its class alone, in eval mode.

        classes: that of each picture, for a conditional model. Raises ValueError.
        """
        if (classes is not None) != bool(self.conditional) or (classes is not None and len(classes) != n):
            raise ValueError("a conditional generator is told the class of each picture, another is told none")
        device = next(self.parameters()).device
        z = torch.from_numpy(np.stack([np.random.default_rng((seed, i)).standard_normal(self.noise, np.float32) for i in range(n)])).to(device)
        wanted = None if classes is None else torch.as_tensor(classes, device=device)
        parts = [self.generate(z[i : i + CHUNK], None if wanted is None else wanted[i : i + CHUNK]) for i in range(0, n, CHUNK)]  # type: ignore[arg-type]
        return torch.cat(parts).float().add(1).div(2)


def _initialise(module: nn.Module) -> None:
    """N(0, 0.02), of the norms' scales around 1 (section 3, and the authors' code)."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def build(*, classes: int = 0, image_size: int = 64, width: int = 64, noise: int = 100, conditional: bool = False, down: str = "stride",
          norm: str = "batch") -> DCGAN:  # fmt: skip
    """image_size: a power of two, 8 at least. width: maps of the discriminator's first layer. noise: numbers of z. conditional: tell both the class.
    down: how the discriminator halves, stride, max or avg. norm: batch, instance, layer, group or none, in both.

    Pictures are scaled, and their middle cut out. Raises UsageError.
    """
    if image_size < 8 or image_size & (image_size - 1):
        raise UsageError(f"image_size={image_size} is no power of two from 8 on", hint="such as 32, 64 or 128")
    prepare = Prepare(resize="crop", size=image_size, mean=(0.5,) * 3, std=(0.5,) * 3)
    return DCGAN(size=image_size, width=width, noise=noise, conditional=classes if conditional else 0, prepare=prepare, down=down, norm=norm)
