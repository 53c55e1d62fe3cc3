"""Total variation: the differences between neighbouring pixels, which noise and seams raise (Rudin 1992; Liu 2018, arXiv:1804.07723, eq. 6)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("pictures",)
BESIDE = ("mask",)


def tv(picture: Tensor, target: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
    """Mean |I(x+1, y) - I(x, y)| plus mean |I(x, y+1) - I(x, y)|, of a picture or any map, B C H W. Zero where nothing varies.

    mask: B 1 H W bool, true in the hole. Then only pairs of pixels that both lie in the hole widened by one pixel (`widened`) count, and the sums are
    divided by their number: the seam and the inside, and nothing of the rest. `target` is not looked at.
    """
    across, down = (picture[..., 1:] - picture[..., :-1]).abs(), (picture[..., 1:, :] - picture[..., :-1, :]).abs()
    if mask is None:
        return _mean(across, torch.ones_like(across)) + _mean(down, torch.ones_like(down))
    region = widened(mask).to(picture.dtype).expand_as(picture)
    return _mean(across, region[..., 1:] * region[..., :-1]) + _mean(down, region[..., 1:, :] * region[..., :-1, :])


def widened(mask: Tensor) -> Tensor:
    """B 1 H W bool -> the same, a pixel larger on every side and corner: its dilation with a 3 x 3 square."""
    return F.max_pool2d(mask.float(), 3, stride=1, padding=1) > 0


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    return (values * counts).sum() / counts.sum().clamp(min=1)
