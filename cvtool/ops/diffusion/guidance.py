"""What steers a diffusion towards a class: the model's own knowledge of it, or a classifier's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cvtool.ops.diffusion.samplers import Denoise
from cvtool.ops.diffusion.schedule import Schedule


def classifier_free(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """eps(null) + s (eps(c) - eps(null)), exactly eps(c) at s = 1 and eps(null) at s = 0 (Ho 2022, arXiv:2207.12598; s = 1 + w there)."""
    return torch.lerp(unconditional, conditional, scale)  # which is exact at both ends


def gradient(log_probability: Callable[[Tensor, int], Tensor], scale: float) -> Denoise:
    """(x, t) -> s grad log p(y | x_t), like x, of `log_probability(x, t)` -> B."""

    def found(x: Tensor, t: int) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            moved = x.detach().clone().requires_grad_()
            return scale * torch.autograd.grad(log_probability(moved, t).sum(), moved)[0]

    return found


def guided(denoise: Denoise, gradient: Denoise, schedule: Schedule) -> Denoise:
    """The denoiser of p(x_t | y): eps - sqrt(1 - abar) grad log p(y | x_t) (Dhariwal 2021, arXiv:2105.05233, algorithm 2), for samplers that have no
    mean to move."""

    def found(x: Tensor, t: int) -> Tensor:
        _, sigma = schedule.scales(t, x)
        return denoise(x, t) - sigma * gradient(x, t)

    return found
