"""The loss of a score map, which tells the few pixels of text from the many others (Zhou 2017, arXiv:1704.03155, eq. 4 and 5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool.losses.dice import overlap_loss


def balanced_ce(logits: Tensor, target: Tensor, *, negatives: float = 0.0) -> Tensor:
    """Cross-entropy in which text and the rest weigh the same: half the mean over each, which is -beta y ln p - (1 - beta)(1 - y) ln(1 - p) with
    beta = 1 - mean(y), summed, over 2 beta (1 - beta) n. Without text: the mean over the rest.

    logits: N; target: N of 0 and 1. negatives > 0: instead the mean over text and the hardest others, that many for each of text (at least 100 in
    all), as detectors mine them (Liao 2019, arXiv:1911.08947, eq. 2): fewer false alarms, since those hold the gradient.
    """
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    there = target > 0.5
    text, rest = each[there], each[~there]
    if negatives:
        hardest = rest.topk(min(len(rest), max(100, round(negatives * len(text))))).values
        return (text.sum() + hardest.sum()) / max(1, len(text) + len(hardest))
    if not len(text) or not len(rest):
        return each.sum() / max(1, len(each))
    return (text.mean() + rest.mean()) / 2


def score_dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 - 2 sum(p y) / (sum p + sum y), p = sigmoid(logits), N each: 0 where they agree. (A seed text leaves the factor 2 out.) Without text: the
    mean of p, whose gradient does not vanish where there is nothing to share."""
    p = logits.sigmoid()
    return overlap_loss(p[None], target[None])[0] if target.any() else p.sum() / max(1, len(p))


LOSSES = {
    "dice": lambda logits, target: score_dice(logits, target),
    "ce": lambda logits, target: balanced_ce(logits, target),
    "hard-ce": lambda logits, target: balanced_ce(logits, target, negatives=3.0),
    "dice+hard-ce": lambda logits, target: score_dice(logits, target) + balanced_ce(logits, target, negatives=3.0),
}


def text_score(logits: Tensor, target: Tensor, counted: Tensor, form: str) -> Tensor:
    """One of `LOSSES` over the cells that count: logits and target (0, 1) and `counted` (bool) of one shape -> a scalar."""
    return LOSSES[form](logits[counted].float(), target[counted].to(torch.float32))
