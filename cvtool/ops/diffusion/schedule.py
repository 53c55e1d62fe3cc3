"""How much of a picture is left at each time of a diffusion, and what follows from that (Ho 2020, arXiv:2006.11239, section 2).

q(x_t | x_t-1) = N(sqrt(1 - beta_t) x_t-1, beta_t I), t = 1 ... T (eq. 2); hence q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I) with
abar_t = prod (1 - beta) (eq. 4). Times count from 1, as the paper's do; at 0 there is no noise, abar_0 = 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cvtool.errors import UsageError, did_you_mean

NAMES = ("linear", "cosine")
MOST = 0.999  # of a beta


class Schedule:
    """betas: T in (0, 1). `abar` and `betas` are float64 of T + 1 values, at [0] those of no noise.

    A time is a whole number for all of a batch, or B int64, one a picture.
    """

    def __init__(self, betas: Tensor) -> None:
        if betas.ndim != 1 or not len(betas) or not ((betas > 0) & (betas < 1)).all():
            raise ValueError("betas are numbers between 0 and 1")
        self.betas = torch.cat([torch.zeros(1, dtype=torch.float64), betas.double()])
        self.abar = torch.cumprod(1 - self.betas, 0)

    @property
    def length(self) -> int:
        """T."""
        return len(self.betas) - 1

    def scales(self, t: int | Tensor, like: Tensor) -> tuple[float, float] | tuple[Tensor, Tensor]:
        """(sqrt(abar_t), sqrt(1 - abar_t)): how much of the picture and of the noise there is; for times B as B 1 1 ... of `like`'s kind."""
        if isinstance(t, int):
            left = float(self.abar[t])
            return math.sqrt(left), math.sqrt(1 - left)
        value = self.abar.to(t.device)[t].view(-1, *[1] * (like.ndim - 1))
        return value.sqrt().to(like.dtype), (1 - value).sqrt().to(like.dtype)

    def noised(self, x0: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
        """A draw of q(x_t | x_0), of noise ~ N(0, 1) (eq. 4)."""
        a, s = self.scales(t, x0)
        return a * x0 + s * noise

    def step(self, x: Tensor, t: int, noise: Tensor) -> Tensor:
        """A draw of q(x_t | x_t-1) (eq. 2)."""
        beta = float(self.betas[t])
        return math.sqrt(1 - beta) * x + math.sqrt(beta) * noise

    def x0_of(self, x: Tensor, t: int | Tensor, eps: Tensor) -> Tensor:
        """The picture that x_t is, if eps is its noise."""
        a, s = self.scales(t, x)
        return (x - s * eps) / a

    def eps_of(self, x: Tensor, t: int | Tensor, x0: Tensor) -> Tensor:
        """The noise in x_t, if x0 is its picture."""
        a, s = self.scales(t, x)
        return (x - a * x0) / s

    def velocity(self, x0: Tensor, t: int | Tensor, eps: Tensor) -> Tensor:
        """v = sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans 2022, arXiv:2202.00512, appendix D)."""
        a, s = self.scales(t, x0)
        return a * eps - s * x0

    def eps_of_velocity(self, x: Tensor, t: int | Tensor, v: Tensor) -> Tensor:
        """The noise in x_t, if v is its velocity."""
        a, s = self.scales(t, x)
        return a * v + s * x

    def posterior(self, x0: Tensor, x: Tensor, t: int, s: int | None = None) -> tuple[Tensor, float]:
        """Mean and variance of q(x_s | x_t, x_0), s < t, s = t - 1 unless given (eq. 6 and 7, of the betas between s and t taken together)."""
        s = t - 1 if s is None else s
        now, then = float(self.abar[t]), float(self.abar[s])
        left = now / then  # alpha_t, where s = t - 1
        mean = math.sqrt(then) * (1 - left) / (1 - now) * x0 + math.sqrt(left) * (1 - then) / (1 - now) * x
        return mean, (1 - then) / (1 - now) * (1 - left)


def linear(length: int = 1000, first: float = 1e-4, last: float = 0.02) -> Schedule:
    """Betas in equal steps (Ho 2020, section 4); for another T than 1000 scaled by 1000 / T, so that as much noise comes together."""
    scale = 1000 / length
    return Schedule(torch.linspace(scale * first, scale * last, length, dtype=torch.float64).clamp(max=MOST))


def cosine(length: int = 1000, offset: float = 0.008) -> Schedule:
    """abar_t = f(t) / f(0), f(t) = cos((t/T + s) / (1 + s) pi/2)^2 (Nichol 2021, arXiv:2102.09672, eq. 17): pictures are not noise so soon."""
    f = torch.cos((torch.arange(length + 1, dtype=torch.float64) / length + offset) / (1 + offset) * math.pi / 2) ** 2
    return Schedule((1 - f[1:] / f[:-1]).clamp(max=MOST))


def schedule(name: str, length: int) -> Schedule:
    """The schedule of that name with T = length. Raises UsageError for another name or a T below 1."""
    if name not in NAMES:
        raise UsageError(f"unknown noise schedule '{name}'", hint=did_you_mean(name, NAMES) or "noise schedules: " + ", ".join(NAMES))
    if length < 1:
        raise UsageError(f"a diffusion has one time at least, not {length}")
    return linear(length) if name == "linear" else cosine(length)


def spaced(length: int, steps: int) -> list[int]:
    """`steps` + 1 times from T down to 0, as equally far apart as whole numbers allow. Raises UsageError for more steps than T."""
    if not 1 <= steps <= length:
        raise UsageError(f"{steps} steps: this diffusion has {length} times", hint=f"1 to {length} steps")
    return [round(length * (steps - i) / steps) for i in range(steps + 1)]
