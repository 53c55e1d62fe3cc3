"""What becomes a token: a patch of a picture, or a word (Dosovitskiy 2020, arXiv:2010.11929, eq. 1; Vaswani 2017, arXiv:1706.03762, section 3.4)."""

from __future__ import annotations

import math

from torch import Tensor, nn

Grid = tuple[int, int]


class PatchEmbed(nn.Module):
    """P x P patches side by side, each flattened (C P^2 values) and multiplied by W_E: a convolution with kernel = stride = P.

    forward: B C H W -> tokens B N D in rows, and their grid (H/P, W/P), rounded down. 224 x 224 in patches of 16 are 196 tokens.
    """

    def __init__(self, patch: int, channels: int, *, inputs: int = 3) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(inputs, channels, patch, patch)
        nn.init.trunc_normal_(self.proj.weight, std=math.sqrt(1 / (inputs * patch * patch)))  # one deviation in, one out
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        y = self.proj(x)  # B D h w
        return y.flatten(2).transpose(1, 2), (y.shape[2], y.shape[3])


class TokenEmbed(nn.Module):
    """A learned vector for each of `count` tokens, times sqrt(D), so that it stands out of the positions' code. forward: B N int64 -> B N D."""

    def __init__(self, count: int, channels: int) -> None:
        super().__init__()
        self.scale = math.sqrt(channels)
        self.table = nn.Embedding(count, channels)
        nn.init.normal_(self.table.weight, std=channels**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table(tokens) * self.scale
