"""Pictures with holes at half the size, and holes filled smoothly from their surroundings (push-pull: Gortler 1996, doi:10.1145/237170.237200)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def halved(image: Tensor, hole: Tensor) -> tuple[Tensor, Tensor]:
    """C H W float and H W bool at half the size (rounded up): the mean of what is known of each 2 x 2, hole where less than half of it is."""
    pad = (0, image.shape[2] % 2, 0, image.shape[1] % 2)
    known = F.pad((~hole)[None, None].float(), pad, mode="replicate")
    padded = F.pad(image[None], pad, mode="replicate")
    share = F.avg_pool2d(known, 2)
    kept = F.avg_pool2d(padded * known, 2) / share.clamp_min(0.25)
    return torch.where(share > 0, kept, F.avg_pool2d(padded, 2))[0], share[0, 0] < 0.5


def push_pull(image: Tensor, known: Tensor) -> Tensor:
    """C H W with what is not known (H W bool) filled smoothly: the means of what is known, from ever coarser levels. All unknown gives 0."""
    if bool(known.all()):
        return image
    weights = known[None].to(image.dtype)
    if min(image.shape[1:]) == 1 and max(image.shape[1:]) == 1:
        return image * weights
    pad = (0, image.shape[2] % 2, 0, image.shape[1] % 2)
    share = F.avg_pool2d(F.pad(weights[None], pad), 2)
    coarse = F.avg_pool2d(F.pad((image * weights)[None], pad), 2)[0] / share[0].clamp_min(0.25)
    below = push_pull(coarse, share[0, 0] > 0)
    above = F.interpolate(below[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    return torch.where(known, image, above[:, : image.shape[1], : image.shape[2]])
