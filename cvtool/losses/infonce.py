"""InfoNCE, or the N-pairs loss: the positive picked out among the negatives by softmax (Sohn 2016, NIPS; van den Oord 2018, arXiv:1807.03748)."""

from __future__ import annotations

import torch
from torch import Tensor

from cvtool.losses._reduce import reduced, within
from cvtool.losses._vectors import by_positive

KINDS = ("embeddings",)
ALIASES = ("n-pairs",)


def infonce(z: Tensor, labels: Tensor, *, temperature: float = 1.0, reduction: str = "mean") -> Tensor:
    """-ln e^(ap) / (e^(ap) + sum_n e^(an)) over each anchor and positive, of dot products over the temperature. z: B D; labels: B int64.

    With one negative softplus(an - ap). Never below `tuplet`, since ln(1 + sum e^x) >= max(0, max x).
    """
    ap, an = by_positive(z @ z.T / temperature, labels)
    return reduced(torch.cat([ap[:, None], an], 1).logsumexp(1) - ap, reduction)


def check(*, temperature: float, **others: object) -> None:
    """Raises UsageError for a temperature that is not above 0."""
    within("infonce", "temperature", temperature, 0, open_low=True)
