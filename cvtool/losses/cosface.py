"""CosFace: softmax over the cosines to the classes' templates, with a margin taken off that of the true class (Wang 2018, arXiv:1801.09414)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cvtool.losses._reduce import reduced, within
from cvtool.losses._vectors import cosines

KINDS = ("embeddings",)
BESIDE = ("templates",)


def cosface(z: Tensor, labels: Tensor, *, templates: Tensor, margin: float = 0.35, scale: float = 64.0, reduction: str = "mean") -> Tensor:
    """Cross-entropy of s (cos(theta_y) - m) for the true class and s cos(theta_j) for the others (eq. 4). z: B D; labels: B; templates: K D."""
    cos = cosines(z, templates)
    return reduced(F.cross_entropy(scale * (cos - margin * F.one_hot(labels, cos.shape[1])), labels, reduction="none"), reduction)


def check(*, margin: float, scale: float, **others: object) -> None:
    """Raises UsageError for a margin that no two cosines have between them, and for a scale that is not above 0."""
    within("cosface", "margin", margin, 0, 2)
    within("cosface", "scale", scale, 0, open_low=True)
