"""The loss of rotated boxes told by distances to their sides and an angle (Zhou 2017, arXiv:1704.03155, eq. 6 to 8)."""

from __future__ import annotations

import torch
from torch import Tensor


def rbox(prediction: Tensor, target: Tensor, *, angle_weight: float = 10.0) -> tuple[Tensor, Tensor]:
    """(P values of -ln IoU, P values of `angle_weight` (1 - cos(t - t*))) for P 5 each: distances to top, right, bottom and left, and the angle t.

    The IoU is that of two boxes at the same angle: both share w = min(right) + min(left) by h = min(top) + min(bottom). All four sides count. (A seed
    text lists three of them.) One square pixel is added to intersection and union, so that neither is 0.
    """
    top, right, bottom, left, angle = prediction.unbind(1)
    t, r, b, l, a = target.unbind(1)
    shared = (torch.minimum(right, r) + torch.minimum(left, l)).clamp(min=0) * (torch.minimum(top, t) + torch.minimum(bottom, b)).clamp(min=0)
    union = (top + bottom) * (left + right) + (t + b) * (l + r) - shared
    return ((union + 1) / (shared + 1)).log(), angle_weight * (1 - torch.cos(angle - a))
