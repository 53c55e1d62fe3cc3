"""Triplet loss: nearer to its own class than to another by a margin, in squared distance (Schroff 2015, arXiv:1503.03832; Weinberger 2009)."""

from __future__ import annotations

from torch import Tensor

from cvtool.losses._reduce import reduced, within
from cvtool.losses._vectors import by_triple

KINDS = ("embeddings",)
BESIDE = ("triples",)


def triplet(z: Tensor, labels: Tensor, *, margin: float = 0.2, triples: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """max(0, ||a - p||^2 - ||a - n||^2 + m) (eq. 3) over the `triples`, T 3, that a miner has picked, or all of the batch. z: B D; labels: B int64.

    The distances are squared; those of `torch.nn.TripletMarginLoss` are not. margin 0 is the naive form, which a network that gives one point for
    everything has solved: its loss is 0.
    """
    a, p, n = by_triple(z, labels, triples)
    return reduced(((a - p).square().sum(1) - (a - n).square().sum(1) + margin).clamp(min=0), reduction)


def check(*, margin: float, **others: object) -> None:
    """Raises UsageError for a margin below 0."""
    within("triplet", "margin", margin, 0)
