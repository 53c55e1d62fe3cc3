"""Anchors: the boxes of fixed sizes and shapes that stand at every place of a feature map (Ren 2015, arXiv:1506.01497, section 3.1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float], *, base: float | None = None) -> Tensor:
    """The k = len(ratios) * len(sizes) anchors of one place, centred on (0, 0): k 4 float32 xyxy, ratio by ratio.

    An anchor of size s and ratio r (height / width) has the area s^2: h = s sqrt(r), w = s / sqrt(r). Corners are rounded to whole pixels, as
    in every published detector. With `base` given, sizes count in units of it (the paper's code: base 16, sizes 8, 16, 32 are 128, 256, 512 pixels).
    """
    s = torch.tensor([size * (base or 1) for size in sizes], dtype=torch.float32)
    h = torch.tensor(list(ratios), dtype=torch.float32).sqrt()
    w = 1 / h
    ws, hs = (w[:, None] * s).flatten(), (h[:, None] * s).flatten()
    return (torch.stack((-ws, -hs, ws, hs), dim=1) / 2).round()


def grid_anchors(cell: Tensor, size: tuple[int, int], stride: tuple[float, float]) -> Tensor:
    """`cell` (k 4) at every place of a map of `size` (rows, cols): rows*cols*k 4 xyxy, row by row, place by place, anchor by anchor.

    The place (i, j) stands at (i * stride[0], j * stride[1]) of the picture, in (y, x) order. Equals torchvision's AnchorGenerator.
    """
    (rows, cols), (down, right) = size, stride
    y = torch.arange(rows, dtype=torch.float32, device=cell.device) * down
    x = torch.arange(cols, dtype=torch.float32, device=cell.device) * right
    yy, xx = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack((xx, yy, xx, yy), dim=-1).reshape(-1, 1, 4)
    return (shifts + cell.to(shifts.device)).reshape(-1, 4)
