"""Contrastive loss: what is of one class shall lie together, what is not a margin apart (Hadsell 2006, doi:10.1109/CVPR.2006.100)."""

from __future__ import annotations

from torch import Tensor

from cvtool.losses._reduce import reduced, within
from cvtool.losses._vectors import by_pair

KINDS = ("embeddings",)


def contrastive(z: Tensor, labels: Tensor, *, margin: float | None = 1.0, positive: float = 0.0, reduction: str = "mean") -> Tensor:
    """Over all pairs, d = ||z_i - z_j||: max(0, d - m+)^2 of those of one class, max(0, m - d)^2 of the others.

    z: B D; labels: B int64. margin: m, None for -d^2 without a bound, which pushes apart for ever. positive: m+, the distance that is near enough;
    0 is d^2. A pair further apart than m has neither loss nor gradient. (One line of a seed text lacks the square.)
    """
    if margin is None:
        return reduced(by_pair(z, labels, lambda d: (d - positive).clamp(min=0).square(), lambda d: -d.square()), reduction)
    return reduced(by_pair(z, labels, lambda d: (d - positive).clamp(min=0).square(), lambda d: (margin - d).clamp(min=0).square()), reduction)


def check(*, margin: float | None, positive: float, **others: object) -> None:
    """Raises UsageError for margins below 0."""
    within("contrastive", "margin", margin, 0)
    within("contrastive", "positive", positive, 0)
