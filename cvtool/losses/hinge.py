"""Hinge loss over classes, the multi-class support vector machine's (Weston 1999, ESANN, eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from cvtool.losses._reduce import within
from cvtool.losses._targets import labelled, weights_of

KINDS = ("labels", "semantic")
ALIASES = ("svm",)


def hinge(scores: Tensor, target: Tensor, *, margin: float = 1.0) -> Tensor:
    """Mean over the rows of sum_{j != y} max(0, s_j - s_y + margin): zero once the true class leads each other one by the margin.

    scores: N K, not squashed. target: N class numbers, or N K weights that sum to 1 (then the mean over the classes they name); or maps, B K H W
    and B H W, without the pixels labelled 255.
    """
    scores, target = labelled(scores, target)
    if not target.is_floating_point():
        true = scores.gather(1, target[:, None])
        loss = (scores - true + margin).clamp(min=0).scatter(1, target[:, None], 0.0)  # N K
        return loss.sum() / max(1, len(scores))
    each = (scores[:, None, :] - scores[:, :, None] + margin).clamp(min=0)  # N y j
    each = each * (1 - torch.eye(scores.shape[1], device=scores.device, dtype=scores.dtype))
    return (weights_of(target, scores) * each.sum(dim=2)).sum() / max(1, len(scores))


def check(*, margin: float) -> None:
    """Raises UsageError for a margin below 0, which would ask the true class to come after the others."""
    within("hinge", "margin", margin, 0)
