"""A U-Net that is told the time: what a diffusion's noise is found with (Ho 2020, arXiv:2006.11239, appendix B).

Residual blocks with group norm, the time added between their two convolutions; self-attention over all places behind each block of chosen levels and
in the middle; every map on the way down goes to its fellow on the way up.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.layers.norm import norm

EPS = 1e-6
LEAST = 1e-10  # variance, times the layer's size, at which what is added to a stream begins: nearly nothing, as in the authors' code


def timestep_embedding(t: Tensor, channels: int, *, base: float = 10_000.0) -> Tensor:
    """Times B, counted from 0 -> B C float32: sines, then cosines, of t / base^(i / (C/2 - 1)). C even, 4 at least."""
    half = channels // 2
    angles = t.float()[:, None] * torch.exp(torch.arange(half, device=t.device) * (-math.log(base) / (half - 1)))
    return torch.cat([angles.sin(), angles.cos()], 1)


class Residual(nn.Module):
    """B C H W and what is told, B E -> B D H W: norm, swish, 3 x 3; + linear(swish(told)); norm, swish, dropout, 3 x 3; + what came."""

    def __init__(self, inputs: int, outputs: int, told: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = norm("group", inputs, groups=groups, eps=EPS)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.told = nn.Linear(told, outputs)
        self.norm2 = norm("group", outputs, groups=groups, eps=EPS)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = y + self.told(F.silu(told))[:, :, None, None]
        return self.skip(x) + self.conv2(self.dropout(F.silu(self.norm2(y))))


class Attention(nn.Module):
    """B C H W -> the same: each place takes from all places, h heads, added to what came."""

    def __init__(self, channels: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm("group", channels, groups=groups, eps=EPS)
        self.inside = nn.Linear(channels, 3 * channels)
        self.outside = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inside(self.norm(x).flatten(2).transpose(1, 2))  # B N 3C
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in y.chunk(3, 2))  # B h N C/h
        y = self.outside(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + y.transpose(1, 2).unflatten(2, x.shape[2:])


class Down(nn.Module):
    """B C H W -> B C H/2 W/2 by a 3 x 3 convolution of stride 2, padded to the right and below."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    """B C H W -> B C 2H 2W: every place repeated, then a 3 x 3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0))


class Stage(nn.Module):
    """The blocks of a level, each with its attention if it has any, and the way to the next level, if there is one."""

    def __init__(self, blocks: Sequence[Residual], attentions: Sequence[Attention], change: nn.Module | None) -> None:
        super().__init__()
        self.blocks, self.attentions, self.change = nn.ModuleList(blocks), nn.ModuleList(attentions), change

    def forward(self, x: Tensor, told: Tensor, kept: list[Tensor], *, down: bool) -> Tensor:
        """down: what each block makes is put on `kept`; else each block also takes the last of `kept`."""
        for i in range(len(self.blocks)):
            x = self.blocks[i](x if down else torch.cat([x, kept.pop()], 1), told)
            x = self.attentions[i](x) if self.attentions else x
            if down:
                kept.append(x)
        if self.change is not None:
            x = self.change(x)
            if down:
                kept.append(x)
        return x


class DiffusionUNet(nn.Module):
    """B C H W, times B counted from 0 (and classes B int64) -> B D H W. H and W are multiples of 2^(levels - 1).

    width: C of the first level, times one of `multiples` at each. blocks: on each level down; up it is one more. attention: levels with attention,
    from 0 on; the middle has it always. groups: of the norms; with fewer than 4 channels each they would take away most of what a block is told.
    classes: rows of a table of embeddings that are added to the time's, 0 for none.
    """

    def __init__(
        self, inputs: int, outputs: int, *, width: int = 128, multiples: Sequence[int] = (1, 2, 2, 2), blocks: int = 2,
        attention: Collection[int] = (1,), heads: int = 1, groups: int = 32, dropout: float = 0.0, classes: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        told, self.width = 4 * width, width
        self.time = nn.Sequential(nn.Linear(width, told), nn.SiLU(), nn.Linear(told, told))
        self.classes = nn.Embedding(classes, told) if classes else None
        self.first = nn.Conv2d(inputs, width, 3, padding=1)

        def stage(sizes: Sequence[tuple[int, int]], attends: bool, change: nn.Module | None) -> Stage:
            attentions = [Attention(b, heads, groups) for _, b in sizes if attends]
            return Stage([Residual(a, b, told, groups, dropout) for a, b in sizes], attentions, change)

        widths = [width * multiple for multiple in multiples]
        last, skips = len(widths) - 1, [width]  # channels of the maps that go over
        down, up = [], []
        channels = width
        for level, wide in enumerate(widths):
            sizes = [(channels, wide), *[(wide, wide)] * (blocks - 1)]
            down.append(stage(sizes, level in attention, Down(wide) if level < last else None))
            skips += [wide] * (blocks + (level < last))
            channels = wide
        self.middle = nn.ModuleList(
            [
                Residual(channels, channels, told, groups, dropout),
                Attention(channels, heads, groups),
                Residual(channels, channels, told, groups, dropout),
            ]
        )
        for level, wide in reversed(list(enumerate(widths))):
            sizes = []
            for _ in range(blocks + 1):
                sizes.append((channels + skips.pop(), wide))
                channels = wide
            up.append(stage(sizes, level in attention, Up(wide) if level else None))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.norm = norm("group", channels, groups=groups, eps=EPS)
        self.last = nn.Conv2d(channels, outputs, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        """Variance 1 / mean of inputs and outputs, uniform; what ends a residual branch, and the last layer, with nearly none (the authors' code)."""
        ends = {id(m.conv2) for m in self.modules() if isinstance(m, Residual)} | {id(m.outside) for m in self.modules() if isinstance(m, Attention)}
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                small = id(module) in ends or module is self.last
                nn.init.xavier_uniform_(module.weight, math.sqrt(LEAST) if small else 1.0)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def told(self, t: Tensor, classes: Tensor | None) -> Tensor:
        """What the blocks are told: B E."""
        said = self.time(timestep_embedding(t, self.width))
        return said if self.classes is None else said + self.classes(classes)

    def forward(self, x: Tensor, t: Tensor, classes: Tensor | None = None) -> Tensor:
        told = self.told(t, classes)
        x = self.first(x)
        kept = [x]
        for stage in self.down:
            x = stage(x, told, kept, down=True)
        x = self.middle[2](self.middle[1](self.middle[0](x, told)), told)
        for stage in self.up:
            x = stage(x, told, kept, down=False)
        return self.last(F.silu(self.norm(x)))
