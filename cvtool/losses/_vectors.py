"""What losses of embeddings share: values by pairs, triples and likenesses of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool.ops import mining

TINY = 1e-12  # below a squared distance that float32 can tell from 0


def by_pair(z: Tensor, labels: Tensor, same: Callable[[Tensor], Tensor], different: Callable[[Tensor], Tensor]) -> Tensor:
    """The values of a function of ||z_i - z_j|| for the pairs of one class, and of another for the others: P."""
    found = []
    for chosen, function in zip(mining.pairs(labels), (same, different), strict=True):
        squared = (z[chosen[:, 0]] - z[chosen[:, 1]]).square().sum(1)
        found.append(function(squared.clamp(min=TINY).sqrt() * (squared > TINY)))  # its slope at 0 is taken as 0: there is none
    return torch.cat(found)


def by_triple(z: Tensor, labels: Tensor, triples: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Anchors, positives and negatives, T D each, of the triples given (T 3), or of all in the batch."""
    chosen = mining.triples(labels) if triples is None else triples
    return z[chosen[:, 0]], z[chosen[:, 1]], z[chosen[:, 2]]


def by_positive(likeness: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """B B -> of each anchor and positive s_ap (P) and the anchor's s_an (P B), -inf where it is no negative; pairs without any are left out."""
    own = mining.positives(labels)
    negative = labels[own[:, 0]][:, None] != labels[None]
    kept = negative.any(1)
    own, negative = own[kept], negative[kept]
    return likeness[own[:, 0], own[:, 1]], likeness[own[:, 0]].masked_fill(~negative, -torch.inf)


def cosines(z: Tensor, templates: Tensor) -> Tensor:
    """B D and K D -> B K."""
    return F.normalize(z, dim=1) @ F.normalize(templates, dim=1).T
