"""Gradient penalty: a critic whose slope is 1 between real and made pictures (Gulrajani 2017, arXiv:1704.00028, eq. 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, made: Tensor) -> Tensor:
    """Mean over the pictures of (||grad f(x^)|| - 1)^2 at x^ = t x + (1 - t) G(z), t uniform in [0, 1] and one a picture, the norm over all values.

    critic: B ... -> B, each picture scored by itself: with batch normalisation the gradient would mix them. real, made: B ... of one shape. The
    result can be differentiated by the critic's weights; t comes from torch's global generator. Computed in float32 whatever autocast says.
    """
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)
    between = (share * real.detach().float() + (1 - share) * made.detach().float()).requires_grad_()
    with torch.enable_grad(), torch.autocast(real.device.type, enabled=False):
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        return (slope.flatten(1).norm(dim=1) - 1).square().mean()
