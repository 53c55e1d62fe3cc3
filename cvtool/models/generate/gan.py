"""GAN: a network that makes pictures of noise and one that tells them from real ones, by turns (Goodfellow 2014, arXiv:1406.2661).

Both are fully connected: z through layers of `hidden` numbers, each with ReLU, to all values of a picture and tanh; the discriminator through the
same widths in reverse, with LeakyReLU 0.2, to one number. Where neither can get better the discriminator says 1/2 of everything, and what it loses,
-ln D(x) - ln(1 - D(G(z))), is ln 4 (theorem 1; ln 2 where the two halves are averaged). The paper's own way of training is

    cvtool train -m gan --data photos/ --d-steps 1 --optimizer momentum --lr 0.1 --gan-loss minimax
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from cvtool.errors import UsageError
from cvtool.layers.activation import activation as activated
from cvtool.models.generate._players import Players, spread, values

VARIANTS = {
    "base": {"image_size": 32, "hidden": (256, 512, 1024), "noise": 100},
    "small": {"image_size": 28, "hidden": (256, 512), "noise": 64},
    "tiny": {"image_size": 16, "hidden": (64, 128), "noise": 16},
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


class Perceptron(nn.Sequential):
    """B inputs -> B outputs, through `hidden` widths with an activation; the last layer is bare."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, *, activation: str) -> None:
        layers: list[nn.Module] = []
        for a, b in pairwise([inputs, *hidden]):
            layers += [nn.Linear(a, b), activated(activation)]
        super().__init__(*layers, nn.Linear([inputs, *hidden][-1], outputs))


class GAN(Players):
    """Pictures of `size` x `size`. hidden: widths of the generator, from z outwards. activation: of both, "" for the two above."""

    def __init__(self, *, size: int, hidden: Sequence[int], noise: int, latent: str, range: Sequence[float], activation: str) -> None:
        low, high, squashed = values(range)
        super().__init__(size=size, noise=noise, latent=latent, low=low, high=high, conditional=0)
        count = 3 * size**2
        made = Perceptron(noise, hidden, count, activation=activation or "relu")
        self.generator = nn.Sequential(made, activated(squashed), nn.Unflatten(1, (3, size, size)))
        judged = Perceptron(count, list(hidden)[::-1], 1, activation=activation or "leaky-relu:0.2")
        self.discriminator = nn.Sequential(nn.Flatten(), judged, nn.Flatten(0))
        spread(self)

    def generate(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        return self.generator(z)

    def judge(self, pictures: Tensor, classes: Tensor | None = None) -> Tensor:
        return self.discriminator(pictures)


def checked(image_size: int, hidden: Sequence[int], activation: str) -> None:
    """Raises UsageError for a network of no size."""
    if image_size < 1 or any(width < 1 for width in hidden):
        raise UsageError(f"image_size={image_size} and hidden={','.join(map(str, hidden))}: all of them are 1 at least")
    if activation.partition(":")[0] == "maxout":
        raise UsageError("maxout halves the widths, and these layers keep them", hint="such as leaky-relu:0.2, elu or silu")


def build(
    *, classes: int = 0, image_size: int = 32, hidden: tuple[int, ...] = (256, 512, 1024), noise: int = 100, latent: str = "gaussian",
    range: tuple[int, ...] = (-1, 1), activation: str = "",
) -> GAN:  # fmt: skip
    """image_size: side of the pictures, which are scaled, and their middle cut out. hidden: widths of the generator's layers, the discriminator's in
    reverse. noise: numbers of z. latent: gaussian, sphere or uniform. range: of the pictures' values, -1,1 (tanh) or 0,1 (sigmoid). activation: of
    both, "" for ReLU and LeakyReLU 0.2. Raises UsageError.
    """
    checked(image_size, hidden, activation)
    return GAN(size=image_size, hidden=hidden, noise=noise, latent=latent, range=range, activation=activation)
