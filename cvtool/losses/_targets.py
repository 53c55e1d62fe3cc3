"""Targets in the form that a loss over classes reads."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cvtool.batch import IGNORE


def labelled(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Maps as rows: B K H W and B H W -> N K and N, the pixels whose label is not 255. What is B K already stays."""
    if logits.ndim != 4:
        return logits, target
    counts = target != IGNORE  # B H W
    return logits.movedim(1, -1)[counts], target[counts]


def weights_of(target: Tensor, logits: Tensor) -> Tensor:
    """N class numbers -> N K of zeros and ones; N K weights stay. In the logits' kind of number."""
    if target.is_floating_point():
        return target.to(logits.dtype)
    return F.one_hot(target, logits.shape[-1]).to(logits.dtype)
