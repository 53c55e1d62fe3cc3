"""Proxy-NCA: near to the proxy of its own class, far from all others, so that nothing is to be mined (Movshovitz-Attias 2017, arXiv:1703.07464)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool.losses._reduce import reduced, within
from cvtool.losses._vectors import cosines

KINDS = ("embeddings",)
ALIASES = ("proxy-nca",)
BESIDE = ("templates",)


def proxy(z: Tensor, labels: Tensor, *, templates: Tensor, scale: float = 1.0, reduction: str = "mean") -> Tensor:
    """-ln e^(-s d(z, p_y)) / sum_{j != y} e^(-s d(z, p_j)) (eq. 4), d squared, of vectors of length 1. z: B D; labels: B; templates: p, K D.

    The true class is not in the sum, so that the loss has no floor at 0 and goes below it; of two classes the sum is one term.
    """
    far = scale * (2 - 2 * cosines(z, templates))  # B K
    own = F.one_hot(labels, far.shape[1]).bool()
    return reduced(far[own] + (-far).masked_fill(own, -torch.inf).logsumexp(1), reduction)


def check(*, scale: float, **others: object) -> None:
    """Raises UsageError for a scale that is not above 0."""
    within("proxy", "scale", scale, 0, open_low=True)
