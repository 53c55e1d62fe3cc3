"""Contrastive hinge loss on squared distances: y d^2 + (1 - y) max(0, m^2 - d^2) (Chopra 2005, doi:10.1109/CVPR.2005.202, in its m^2 form)."""

from __future__ import annotations

from torch import Tensor

from cvtool.losses._reduce import reduced, within
from cvtool.losses._vectors import by_pair

KINDS = ("embeddings",)


def contrastive_m2(z: Tensor, labels: Tensor, *, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """Over all pairs, d = ||z_i - z_j||: d^2 of those of one class, max(0, m^2 - d^2) of the others. z: B D; labels: B int64.

    0 from d = m on, as `contrastive` is; but its slope by d there is -2 m and by z = 0 vanishes, where that of `contrastive` is 0 at m and -2 m at 0.
    """
    return reduced(by_pair(z, labels, lambda d: d.square(), lambda d: (margin**2 - d.square()).clamp(min=0)), reduction)


def check(*, margin: float, **others: object) -> None:
    """Raises UsageError for a margin below 0."""
    within("contrastive-m2", "margin", margin, 0)
