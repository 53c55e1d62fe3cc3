"""NT-Xent: of all views of a batch, which is the other one of the same picture? (Chen 2020, arXiv:2002.05709, equation 1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool.losses._reduce import reduced, within
from cvtool.ops import mining

KINDS = ("embeddings",)
BESIDE = ("bank",)


def nt_xent(z: Tensor, labels: Tensor, *, temperature: float = 0.5, bank: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """-ln e^(s_ij / tau) / sum_{k != i} e^(s_ik / tau) over the positive pairs (i, j), s the cosine.

    z: B D, the views; labels: B int64, equal for views of one picture (or pictures of one class). The sum has the positive in it and leaves out i
    alone: with 2N views and all vectors equal the loss is ln(2N - 1). bank: M D, negatives of other batches, instead of those of this one.
    """
    z = F.normalize(z, dim=1)
    own = mining.positives(labels)
    likeness = z @ z.T / temperature  # B B
    ap = likeness[own[:, 0], own[:, 1]]
    if bank is None:
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        return reduced(likeness.masked_fill(itself, -torch.inf).logsumexp(1)[own[:, 0]] - ap, reduction)
    an = z @ F.normalize(bank, dim=1).T / temperature  # B M
    return reduced(torch.cat([ap[:, None], an[own[:, 0]]], 1).logsumexp(1) - ap, reduction)


def lowest(pictures: int, *, temperature: float = 0.5, bank: int = 0) -> float:
    """Below which the loss of two views of each of so many pictures never is, which is not 0: the views of a picture are equal, and the pictures as
    far apart as points of a sphere can be, the cosine of two -1 / (pictures - 1); all of a bank of negatives opposite."""
    if pictures < 1:
        return 0.0
    if bank:
        return math.log1p(bank * math.exp(-2 / temperature))
    return math.log1p(2 * (pictures - 1) * math.exp((-1 / max(1, pictures - 1) - 1) / temperature))


def check(*, temperature: float, **others: object) -> None:
    """Raises UsageError for a temperature that is not above 0."""
    within("nt-xent", "temperature", temperature, 0, open_low=True)
