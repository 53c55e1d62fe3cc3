"""Ways from noise back to a picture, for any denoiser: `denoise(x, t)` -> the noise in x_t, x B ..., t a whole number.

Each takes x_T ~ N(0, 1) and times from T down to 0 (`schedule.spaced`) and gives x_0. `noise()` is asked for fresh N(0, 1) like x when some is
needed, so that who calls says where it comes from. clip: predicted pictures are kept in [-1, 1], as the authors of DDPM keep them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor

from cvtool.ops.diffusion.schedule import Schedule

Denoise = Callable[[Tensor, int], Tensor]
Noise = Callable[[], Tensor]
NAMES = ("dpm-solver++", "ddim", "ddpm")


def ddpm(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    times: Sequence[int],
    noise: Noise,
    *,
    variance: Literal["large", "small"] = "large",
    clip: bool = True,
    gradient: Denoise | None = None,
) -> Tensor:
    """Draws of p(x_s | x_t), one after the other (Ho 2020, arXiv:2006.11239, algorithm 2); with fewer times than T those of the betas between
    taken together (Nichol 2021, arXiv:2102.09672, section 4).

    variance: large, sigma^2 = beta_t; small, that of q(x_s | x_t, x_0) (section 3.2). gradient: (x, t) -> grad log p(y | x_t) like x, which moves the
    mean by Sigma times it (Dhariwal 2021, arXiv:2105.05233, algorithm 1).
    """
    for t, s in pairwise(times):
        x0 = _x0(schedule, x, t, denoise(x, t), clip)
        mean, spread = schedule.posterior(x0, x, t, s)
        if variance == "large":
            spread = 1 - float(schedule.abar[t] / schedule.abar[s])
        if gradient is not None:
            mean = mean + spread * gradient(x, t)
        x = mean + math.sqrt(spread) * noise() if s else mean
    return x


def ddim(
    denoise: Denoise, x: Tensor, schedule: Schedule, times: Sequence[int], noise: Noise | None = None, *, eta: float = 0.0, clip: bool = True
) -> Tensor:
    """A way that needs no noise, or eta times as much of it as DDPM with the small variance (Song 2020, arXiv:2010.02502, eq. 12 and 16)."""
    for t, s in pairwise(times):
        x0 = _x0(schedule, x, t, denoise(x, t), clip)
        eps = schedule.eps_of(x, t, x0)
        now, then = float(schedule.abar[t]), float(schedule.abar[s])
        sigma = eta * math.sqrt((1 - then) / (1 - now) * (1 - now / then))
        x = math.sqrt(then) * x0 + math.sqrt(max(0.0, 1 - then - sigma**2)) * eps
        if sigma and noise is not None:
            x = x + sigma * noise()
    return x


def dpm_solver(denoise: Denoise, x: Tensor, schedule: Schedule, times: Sequence[int], *, clip: bool = True) -> Tensor:
    """DPM-Solver++(2M): the same way as DDIM's, by steps whose error is of second order (Lu 2022, arXiv:2211.01095, algorithm 2).

    lambda = ln(alpha / sigma) is the time in which the exact solution is an integral over predicted pictures; the two last predictions give its
    slope. The first step has one only, and the last, to no noise, ends at the prediction.
    """
    before: tuple[Tensor, float] | None = None  # the prediction of the step before, and its length in lambda
    for t, s in pairwise(times):
        x0 = _x0(schedule, x, t, denoise(x, t), clip)
        if s == 0:
            return x0
        (a, sigma), (a_s, sigma_s) = _scales(schedule, t), _scales(schedule, s)
        h = math.log(a_s / sigma_s) - math.log(a / sigma)
        slope = x0
        if before is not None:
            r = before[1] / h
            slope = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before[0]
        x = sigma_s / sigma * x - a_s * math.expm1(-h) * slope
        before = (x0, h)
    return x


def _scales(schedule: Schedule, t: int) -> tuple[float, float]:
    value = float(schedule.abar[t])
    return math.sqrt(value), math.sqrt(1 - value)


def _x0(schedule: Schedule, x: Tensor, t: int, eps: Tensor, clip: bool) -> Tensor:
    x0 = schedule.x0_of(x, t, eps)
    return x0.clamp(-1, 1) if clip else x0
