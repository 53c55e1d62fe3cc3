"""Which pairs and triples of a batch teach something: all, semi-hard (Schroff 2015, arXiv:1503.03832) or hard ones (Hermans 2017, arXiv:1703.07737).

A triple is (anchor, positive of the anchor's class, negative of another one), by numbers in the batch; T 3 int64 of them, ordered by anchor, positive
and negative. distances: B B, squared or not as the function's condition says; nothing here has a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor


def squared_distances(z: Tensor) -> Tensor:
    """B D -> B B of ||z_i - z_j||^2: 0 to the bit for equal vectors, which the expansion into dot products would not give."""
    return (z[:, None] - z[None]).square().sum(-1)


def pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """B -> the pairs i < j of one class and those of two, P 2 and Q 2."""
    upper = torch.ones(len(labels), len(labels), dtype=torch.bool, device=labels.device).triu(1)
    same = labels[:, None] == labels[None]
    return (same & upper).nonzero(), (~same & upper).nonzero()


def positives(labels: Tensor) -> Tensor:
    """B -> P 2: (anchor, positive), both ways round."""
    same = labels[:, None] == labels[None]
    return (same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)).nonzero()


def triples(labels: Tensor) -> Tensor:
    """B -> T 3: every triple of the batch."""
    return _chosen(labels, torch.ones(len(labels), len(labels), len(labels), dtype=torch.bool, device=labels.device))


@torch.no_grad()
def semi_hard(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    """T 3: those with d_ap < d_an < d_ap + margin, of squared distances: right already, but not by the margin (Schroff, eq. 4)."""
    ap, an = distances[:, :, None], distances[:, None, :]
    return _chosen(labels, (ap < an) & (an < ap + margin))


@torch.no_grad()
def hard(distances: Tensor, labels: Tensor) -> Tensor:
    """T 3: for each anchor and positive the nearest negative, where d_an < d_ap."""
    own = positives(labels)
    to_negative = distances.masked_fill(labels[:, None] == labels[None], torch.inf)  # B B
    found = torch.cat([own, to_negative.argmin(1)[own[:, 0]][:, None]], 1)
    return found[to_negative.amin(1)[own[:, 0]] < distances[own[:, 0], own[:, 1]]]


@torch.no_grad()
def as_far(distances: Tensor, labels: Tensor) -> Tensor:
    """T 3: for each anchor and positive the negative with d_an nearest to d_ap: the second stage of staged mining. None of one class alone."""
    own = positives(labels)
    apart = labels[own[:, 0]][:, None] != labels[None]  # P B
    gap = (distances[own[:, 0]] - distances[own[:, 0], own[:, 1]][:, None]).abs().masked_fill(~apart, torch.inf)
    return torch.cat([own, gap.argmin(1)[:, None]], 1)[apart.any(1)]


def _chosen(labels: Tensor, wanted: Tensor) -> Tensor:
    """T 3: the triples for which `wanted`, B B B by anchor, positive and negative, holds."""
    same = labels[:, None] == labels[None]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return (positive[:, :, None] & ~same[:, None, :] & wanted).nonzero()
