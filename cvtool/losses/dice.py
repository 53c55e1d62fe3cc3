"""Dice loss: what two masks do not share, whatever their size (Milletari 2016, arXiv:1606.04797)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool.batch import IGNORE

KINDS = ("semantic",)


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 - 2 sum(p g) / (sum p + sum g), the mean over the classes that occur in the batch, p = softmax(logits).

    logits: B K H W; target: B H W int64; pixels labelled 255 do not count. Classes that do not occur would add a constant 1 and no gradient.
    """
    counts = (target != IGNORE)[:, None]
    p = logits.softmax(dim=1) * counts  # B K H W
    g = F.one_hot(target.masked_fill(~counts[:, 0], 0), logits.shape[1]).movedim(-1, 1).to(p.dtype) * counts
    occurs = g.sum(dim=(0, 2, 3)) > 0  # K
    each = overlap_loss(p.movedim(1, 0), g.movedim(1, 0))  # K
    return (each * occurs).sum() / occurs.sum().clamp(min=1)


def overlap_loss(p: Tensor, g: Tensor) -> Tensor:
    """1 - 2 sum(p g) / (sum p + sum g) over all axes but the first, of soft or hard masks in [0, 1]: N ... each -> N.

    0 for equal hard masks, 1 for disjoint ones, 0 where both are empty. (A seed text leaves the factor 2 out, which gives equal masks 1/2.)
    """
    p, g = p.flatten(1), g.flatten(1)
    total = p.sum(dim=1) + g.sum(dim=1)
    return torch.where(total > 0, 1 - 2 * (p * g).sum(dim=1) / total.clamp(min=torch.finfo(total.dtype).tiny), total)
