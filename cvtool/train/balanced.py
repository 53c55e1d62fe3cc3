"""Cross-entropy in which each class has a weight of its own: `balance=loss`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool.batch import IGNORE
from cvtool.losses import Criterion


class Balanced(Criterion):
    """The mean over pictures, or over labelled pixels, of w_y times -ln p_y; for a mixture of classes of the sum of t_k w_k times -ln p_k.

    weights: one a class, such as `data.balance.class_weights` gives, whose mean over what is learned from is 1: so the rate need not change.
    """

    def __init__(self, kind: str, weights: Sequence[float]) -> None:
        super().__init__("cross-entropy", kind, ())
        self.weights = torch.tensor(weights)

    def __call__(self, prediction: Tensor, target: Tensor, **beside: Tensor | None) -> dict[str, Tensor]:
        weight = self.weights.to(prediction)
        if target.is_floating_point():
            return {"cross_entropy": F.cross_entropy(prediction, target, weight=weight)}
        total = F.cross_entropy(prediction, target, weight=weight, ignore_index=IGNORE, reduction="sum")
        return {"cross_entropy": total / (target != IGNORE).sum().clamp(min=1)}
