"""Multi-label classification: a sigmoid for each class, positives weighed by alpha (Lin 2017, arXiv:1708.02002, eq. 3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cvtool.losses._reduce import within
from cvtool.losses._targets import labelled, weights_of

KINDS = ("labels", "semantic")


def sigmoid_bce(logits: Tensor, target: Tensor, *, alpha: float | None = None) -> Tensor:
    """Mean over the rows of sum_k -alpha y_k ln p_k - (1 - alpha)(1 - y_k) ln(1 - p_k), p = sigmoid(logits).

    logits: N K. target: N K of zeros and ones, any number of ones: a row of zeros is the background; or N class numbers; or maps, B K H W and
    B H W, without the pixels labelled 255. alpha in [0, 1] is the weight of the positives; None weighs both with 1, so alpha = 0.5 is half of it.
    """
    logits, target = labelled(logits, target)
    y = weights_of(target, logits)
    loss = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    if alpha is not None:
        loss = (alpha * y + (1 - alpha) * (1 - y)) * loss
    return loss.sum() / max(1, len(logits))


def check(*, alpha: float | None) -> None:
    """Raises UsageError for a weight that is no share."""
    within("sigmoid-bce", "alpha", alpha, 0, 1)
