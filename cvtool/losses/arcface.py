"""ArcFace: softmax over the cosines to the classes' templates, with an angle added to that of the true class (Deng 2019, arXiv:1801.07698)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool.losses._reduce import reduced, within
from cvtool.losses._vectors import cosines

KINDS = ("embeddings",)
BESIDE = ("templates",)
NEAR = 1e-6  # the arccosine has no slope at 1 and -1


def arcface(z: Tensor, labels: Tensor, *, templates: Tensor, margin: float = 0.5, scale: float = 64.0, reduction: str = "mean") -> Tensor:
    """Cross-entropy of s cos(theta_y + m) for the true class and s cos(theta_j) for the others (eq. 3). z: B D; labels: B; templates: K D.

    margin: m, radians. Beyond theta_y = pi - m, where the cosine would rise again, its place takes cos(theta_y) - m sin(m), which goes on falling
    (as the authors' code does). m = 0 and s = 1 is the softmax of the cosines. (The scale is missing in a seed text.)
    """
    cos = cosines(z, templates)  # B K
    own = cos.gather(1, labels[:, None])
    moved = torch.cos(torch.arccos(own.clamp(NEAR - 1, 1 - NEAR)) + margin) if margin else own
    moved = torch.where(own > math.cos(math.pi - margin), moved, own - margin * math.sin(margin))
    return reduced(F.cross_entropy(scale * cos.scatter(1, labels[:, None], moved), labels, reduction="none"), reduction)


def check(*, margin: float, scale: float, **others: object) -> None:
    """Raises UsageError for an angle out of range and for a scale that is not above 0."""
    within("arcface", "margin", margin, 0, math.pi)
    within("arcface", "scale", scale, 0, open_low=True)
