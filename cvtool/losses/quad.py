"""The loss of quadrilaterals told by offsets to their corners (Zhou 2017, arXiv:1704.03155, eq. 9 to 11)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def quad(prediction: Tensor, target: Tensor) -> Tensor:
    """P values: the mean over the 8 offsets of smooth L1 (beta = 1 pixel), divided by the target's shortest side, at least 1 pixel; P 8 each.

    It is the least of those for the four corners at which the target's order may begin: labels do not agree on that (eq. 10).
    """
    corners = target.unflatten(1, (4, 2))
    shortest = (corners.roll(-1, 1) - corners).norm(dim=2).amin(1).clamp(min=1)  # P
    each = [F.smooth_l1_loss(prediction, corners.roll(-k, 1).flatten(1), reduction="none").mean(1) for k in range(4)]
    return torch.stack(each).amin(0) / shortest
