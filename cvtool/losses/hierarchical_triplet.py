"""Hierarchical triplet loss: the margin of a triple depends on where its classes meet in the tree of all classes (Ge 2018, arXiv:1810.06951)."""

from __future__ import annotations

from torch import Tensor

from cvtool.losses._reduce import reduced
from cvtool.losses._vectors import by_triple
from cvtool.ops.mining import triples

KINDS = ("embeddings",)
BESIDE = ("margins",)
STEP = "hierarchical"


def hierarchical_triplet(z: Tensor, labels: Tensor, *, margins: Tensor, reduction: str = "mean") -> Tensor:
    """1 / (2 Z) sum over the Z triples of the batch of [d_ap - d_an + alpha_z]_+ (eq. 4), d squared distances. z: B D, of length 1; labels: B int64.

    margins: K K, alpha_z by the classes of anchor and negative, such as `ops.class_tree.margins` gives; in the unit of d, which is that of the
    distances between classes. (A seed text omits the bracket; a second one prints the class distance without its square.)
    """
    chosen = triples(labels)
    a, p, n = by_triple(z, labels, chosen)
    alpha = margins[labels[chosen[:, 0]], labels[chosen[:, 2]]]
    return reduced(((a - p).square().sum(1) - (a - n).square().sum(1) + alpha).clamp(min=0) / 2, reduction)
