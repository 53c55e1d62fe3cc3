"""RMSProp: AdaGrad with a moving average instead of a sum, so that it forgets (Hinton 2012, lecture 6e).

    s <- beta s + (1 - beta) g^2,  th <- th - lr g / (sqrt(s) + eps)

torch's optimiser, whose alpha is beta; beta = 0.9 by default, torch's 0.99. Weight decay adds wd th to g.
"""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer, RMSprop

from cvtool.train.optimizers._velocity import unit

TAKES = ("weight_decay",)
ARGUMENTS = {"beta": 0.9, "eps": 1e-8}


def build(groups: list[dict[str, Any]], *, lr: float, beta: float, eps: float) -> Optimizer:
    return RMSprop(groups, lr=lr, alpha=unit("beta", beta), eps=eps)
