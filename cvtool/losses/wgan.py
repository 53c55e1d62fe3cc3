"""Wasserstein loss: a critic's mean of made pictures less that of real ones (Arjovsky 2017, arXiv:1701.07875, eq. 2 and algorithm 1)."""

from __future__ import annotations

from torch import Tensor


def wgan(scores: Tensor, real: bool) -> Tensor:
    """-mean f where the pictures shall score high, mean f where low; f is not squashed, scores may have any shape.

    The critic minimises wgan(f(x), True) + wgan(f(G(z)), False), whose negative is the distance that it tells (times its Lipschitz constant); the
    generator minimises wgan(f(G(z)), True). The paper's algorithm prints directions of ascent; these are their negatives.
    """
    return -scores.mean() if real else scores.mean()
