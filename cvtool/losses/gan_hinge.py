"""Hinge loss of a discriminator, which no longer cares beyond a margin of 1 (Lim 2017, arXiv:1705.02894; Miyato 2018, arXiv:1802.05957, eq. 16)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def gan_hinge(scores: Tensor, real: bool) -> Tensor:
    """Mean of max(0, 1 - D) over real pictures, of max(0, 1 + D) over made ones; D is not squashed. The generator minimises -mean D (eq. 17)."""
    return F.relu(1 - scores if real else 1 + scores).mean()
