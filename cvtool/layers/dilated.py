"""A stack of dilated convolutions: the field doubles with each layer while the map keeps its size (Yu 2015, arXiv:1511.07122, section 2)."""

from __future__ import annotations

from torch import nn


class DilatedStack(nn.Sequential):
    """3 x 3 convolutions at rates 1, 2, 4, .. 2^(L-1) (or `rates`), each followed by `activation`: B C H W -> B C H W.

    The field is 1 + 2 * (sum of the rates): 2^(L+1) - 1 for L layers, with 9 weights a channel pair and layer at every rate.
    """

    def __init__(self, channels: int, layers: int = 3, *, rates: tuple[int, ...] | None = None, activation: type[nn.Module] = nn.ReLU) -> None:
        self.rates = rates or tuple(2**i for i in range(layers))
        super().__init__(*(part for rate in self.rates for part in (nn.Conv2d(channels, channels, 3, padding=rate, dilation=rate), activation())))

    @property
    def field(self) -> int:
        """Cells a side that one output reads."""
        return 1 + 2 * sum(self.rates)
