"""Gated convolution: each output is let through as far as a second convolution of the same window says (Yu 2019, arXiv:1806.03589, eq. 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvtool.layers.activation import activation as activated


class GatedConv(nn.Module):
    """x B C H W -> O = phi(W_f * x) sigmoid(W_g * x), B outputs h w: a mask of its own for each channel and place, soft and learned.

    kernel: odd; the sides stay as they are but for `stride`. activation: phi. W_f and W_g share nothing; they are the first and the second half of
    the one convolution that computes both. Gates start half open, and features with a deviation by which the mean square of what goes through is that
    of what came in (He 2015, arXiv:1502.01852, for this product): without it, 17 such layers say the same of every picture.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1, activation: str = "elu") -> None:
        super().__init__()
        self.both = nn.Conv2d(inputs, 2 * outputs, kernel, stride, dilation * (kernel // 2), dilation)
        self.phi = activated(activation)
        with torch.no_grad():
            features = self.both.weight[:outputs]
            features.normal_(0, 2 * gain(self.phi) / features[0].numel() ** 0.5)
            self.both.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        features, gates = self.both(x).chunk(2, 1)
        return self.phi(features) * gates.sigmoid()


def gain(phi: nn.Module) -> float:
    """1 / sqrt(E phi(z)^2) of z ~ N(0, 1)."""
    z = torch.linspace(-6, 6, 1201, device="cpu")  # a number, also where a model is built without memory for its values
    density = torch.exp(-z.square() / 2)
    return float(((phi(z.clone()).square() * density).sum() / density.sum()).rsqrt())
