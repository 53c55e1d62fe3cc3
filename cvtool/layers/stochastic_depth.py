"""Stochastic depth: in training, residual branches are left out at random, for each picture of its own (Huang 2016, arXiv:1603.09382)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """A branch's output f, B ..., of which a share `rate` of the pictures gets nothing: H <- ReLU(b f(H) + H), b ~ Bernoulli(1 - rate) (eq. 2).

    inverted: b f / (1 - rate) in training and f at evaluation, as torchvision and timm do, so that a checkpoint says the same whatever the rate. Else
    the paper's: b f in training and the survival's share, (1 - rate) f, at evaluation (eq. 5). Rate 0 is a no-op. Raises ValueError.
    """

    def __init__(self, rate: float = 0.0, *, inverted: bool = True) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"a branch is left out with a probability in [0, 1), not {rate}")
        self.rate, self.inverted = rate, inverted

    def forward(self, x: Tensor) -> Tensor:
        return drop_path(x, self.rate, training=self.training, inverted=self.inverted)

    def extra_repr(self) -> str:
        return f"{self.rate:g}" + ("" if self.inverted else ", inverted=False")


def drop_path(x: Tensor, rate: float, *, training: bool, inverted: bool = True) -> Tensor:
    """The function of `StochasticDepth`: B ... -> the same."""
    if rate == 0:
        return x
    keep = 1 - rate
    if not training:
        return x if inverted else keep * x
    kept = x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(keep)
    return x * (kept / keep if inverted else kept)


def linear(rate: float, depth: int) -> Sequence[float]:
    """The rates of `depth` branches, growing with the depth: rate l / L for l = 1 .. L (eq. 4: survival 1 - l/L (1 - p_L))."""
    return [rate * number / depth for number in range(1, depth + 1)]
