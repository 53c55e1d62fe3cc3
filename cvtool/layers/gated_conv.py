"""Gated convolution: each output is let through as far as a second convolution of the same window says (Yu 2019, arXiv:1806.03589, eq. 3)."""

from __future__ import annotations

from torch import Tensor, nn

from cvtool.layers.activation import activation as activated


class GatedConv(nn.Module):
    """x B C H W -> O = phi(W_f * x) sigmoid(W_g * x), B outputs h w: a mask of its own for each channel and place, soft and learned.

    kernel: odd; the sides stay as they are but for `stride`. activation: phi. W_f and W_g share nothing; they are the first and the second half of
    the one convolution that computes both.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1, activation: str = "elu") -> None:
        super().__init__()
        self.both = nn.Conv2d(inputs, 2 * outputs, kernel, stride, dilation * (kernel // 2), dilation)
        self.phi = activated(activation)

    def forward(self, x: Tensor) -> Tensor:
        features, gates = self.both(x).chunk(2, 1)
        return self.phi(features) * gates.sigmoid()
