"""REINFORCE: teaches what chose at random by how well the choice did (Williams 1992; Xu 2015, arXiv:1502.03044, eq. 11-12, for hard attention)."""

from __future__ import annotations

from torch import Tensor


def reinforce(log_probability: Tensor, cost: Tensor, *, baseline: Tensor | float = 0.0) -> Tensor:
    """mean of (cost - baseline) log p(choice): its gradient's expectation is that of E[cost] over the choices.

    log_probability: B, of what was drawn. cost: B, what it led to; no gradient goes through it here. baseline: anything that does not depend on the
    draw; near the mean cost it leaves the expectation and takes most of the noise.
    """
    return ((cost - baseline).detach() * log_probability).mean()
