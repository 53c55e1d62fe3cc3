"""KL divergence of a diagonal Gaussian from N(0, 1): what a variational autoencoder pays for its codes (Kingma 2013, arXiv:1312.6114, appendix B)."""

from __future__ import annotations

from torch import Tensor


def gaussian_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """-1/2 sum(1 + ln sigma^2 - mu^2 - sigma^2), B D each -> B, in nats; 0 where every mu is 0 and every sigma 1, else above 0."""
    return -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum(1)
