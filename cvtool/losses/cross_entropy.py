"""Cross-entropy of the softmax: the surprise at the true class, -ln p_y (Cover 2006, Elements of Information Theory, section 2.8)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cvtool.batch import IGNORE

KINDS = ("labels", "semantic")
ALIASES = ("ce",)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean of -sum_k t_k ln softmax(s)_k, which is -ln p_y where t names one class; in nats (divide by ln 2 for bits).

    logits: B K, or B K H W; the softmax is taken here. target: B int64 in 0..K-1, or B K weights that sum to 1; B H W int64 for maps, of
    which the pixels labelled 255 do not count (none that count: 0). It depends on the true class's probability alone. (A seed text counts
    classes "0, 1 .. M", which is one too many, calls (0, 1, 0, 0, 0) "label 2", which is index 1, and prints 0.3677 for p = 0.775, which
    is log2; in nats it is 0.2549.)
    """
    if logits.ndim == 4:
        return F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum") / (target != IGNORE).sum().clamp(min=1)
    return F.cross_entropy(logits, target)
