"""Focal loss: cross-entropy that turns its eyes from what is already right (Lin 2017, arXiv:1708.02002)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cvtool.losses._reduce import reduced, within
from cvtool.losses._targets import labelled, weights_of

KINDS = ("labels", "semantic")


def focal(logits: Tensor, target: Tensor, *, alpha: float | None = 0.25, gamma: float = 2.0, reduction: str = "mean") -> Tensor:
    """FL(p_t) = -alpha_t (1 - p_t)^gamma ln p_t of each element (eq. 5), with p = sigmoid(logits); "mean", "sum" or "none" over all elements.

    logits, target: the same shape, 1 for the class, 0 for the rest (or between); or logits N K and N class numbers (one against the rest); or
    maps, B K H W and B H W, without the pixels labelled 255. p_t = p where the target is 1 and 1 - p where it is 0 (eq. 2); alpha_t likewise
    from `alpha`, None for the unbalanced form (eq. 4). gamma >= 0; gamma = 0 is cross-entropy, and each step up dims the examples that are
    already well classified: at gamma = 2 and p_t = .9 to one hundredth. (A seed text calls it "varying sigma"; it is gamma that varies.)
    """
    logits, target = labelled(logits, target)
    y = weights_of(target, logits) if target.shape != logits.shape else target.to(logits.dtype)
    p = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, y, reduction="none")  # -ln p_t, without the overflow
    loss = (p + y - 2 * p * y) ** gamma * cross_entropy  # 1 - p_t
    if alpha is not None:
        loss = (alpha * y + (1 - alpha) * (1 - y)) * loss
    return reduced(loss, reduction)


def check(*, alpha: float | None, gamma: float, **others: object) -> None:
    """Raises UsageError for a weight that is no share, and for an exponent that would look away from what is wrong."""
    within("focal", "alpha", alpha, 0, 1)
    within("focal", "gamma", gamma, 0)
