"""Where a token stands, added to what it is, by name: `--pos-emb learned|sincos|peg|none`. Attention alone would not see an exchange of tokens.

Tokens are patches in rows, B N D, perhaps with a class token in front; the grid says how many rows and columns of patches there are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.errors import UsageError, did_you_mean
from cvtool.ops.sinusoid import sinusoid

NAMES = ("learned", "sincos", "peg", "none")
Grid = tuple[int, int]


class Learned(nn.Module):
    """A vector a place, learned with everything else (Dosovitskiy 2020, arXiv:2010.11929, eq. 1); `extra` more in front, for class tokens.

    At another grid the map of vectors is interpolated (bicubic), on the way: the parameters stay those of the grid they were made for, and
    learn at any (Touvron 2019, arXiv:1906.06423, needs that). `resize` makes another grid their own.
    """

    def __init__(self, grid: Grid, channels: int, *, extra: int = 0) -> None:
        super().__init__()
        self.grid, self.extra = grid, extra
        self.weight = nn.Parameter(torch.empty(1, extra + grid[0] * grid[1], channels))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def at(self, grid: Grid) -> Tensor:
        """1 N D for that grid."""
        if grid == self.grid:
            return self.weight
        front, places = self.weight[:, : self.extra], self.weight[:, self.extra :]
        image = places.transpose(1, 2).unflatten(2, self.grid)  # 1 D h w
        image = F.interpolate(image.float(), size=grid, mode="bicubic", align_corners=False, antialias=True).to(image.dtype)
        return torch.cat([front, image.flatten(2).transpose(1, 2)], 1)

    def resize(self, grid: Grid) -> None:
        """Take that grid as the parameters' own."""
        with torch.no_grad():
            self.weight = nn.Parameter(self.at(grid).clone(), requires_grad=self.weight.requires_grad)
        self.grid = grid

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        return x + self.at(grid)


class Sinusoidal(nn.Module):
    """The trigonometric code of a token's number in the sequence, nothing learned; any length."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.table: Tensor
        self.register_buffer("table", torch.empty(0, channels), persistent=False)

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        if len(self.table) < x.shape[1] or self.table.device != x.device:
            self.table = torch.from_numpy(sinusoid(x.shape[1], self.channels)).float().to(x.device)
        return x + self.table[: x.shape[1]].to(x.dtype)


class ConditionalPositions(nn.Module):
    """PEG: a depth-wise k x k convolution over the map of patches, added to it; its zero padding tells where the border is.

    Chu 2021 (arXiv:2102.10882, section 3.2); stands behind the first layer, works at any grid. `extra` tokens in front pass unchanged.
    """

    def __init__(self, channels: int, *, extra: int = 0, kernel: int = 3) -> None:
        super().__init__()
        self.extra = extra
        self.conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        front, patches = x[:, : self.extra], x[:, self.extra :]
        image = patches.transpose(1, 2).unflatten(2, grid)  # B D h w
        return torch.cat([front, (image + self.conv(image)).flatten(2).transpose(1, 2)], 1)


class NoPositions(nn.Module):
    """Tokens are a set."""

    def forward(self, x: Tensor, grid: Grid | None = None) -> Tensor:
        return x


def positions(name: str, grid: Grid, channels: int, *, extra: int = 0) -> nn.Module:
    """The encoding of that name: (tokens B N D, grid) -> B N D. `peg` belongs behind the first layer, the others before it.

    Raises UsageError for another name.
    """
    if name == "learned":
        return Learned(grid, channels, extra=extra)
    if name == "sincos":
        return Sinusoidal(channels)
    if name == "peg":
        return ConditionalPositions(channels, extra=extra)
    if name == "none":
        return NoPositions()
    raise UsageError(f"unknown positional embedding '{name}'", hint=did_you_mean(name, NAMES) or "positional embeddings: " + ", ".join(NAMES))
