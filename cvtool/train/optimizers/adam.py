"""Adam: momentum over a moving average of squares, both debiased (Kingma 2015, arXiv:1412.6980, algorithm 1).

    m <- beta1 m + (1 - beta1) g,  s <- beta2 s + (1 - beta2) g^2,  th <- th - lr m' / (sqrt(s') + eps)
    m' = m / (1 - beta1^t),  s' = s / (1 - beta2^t) in turn t = 1, 2, ...        debias=false: m' = m, s' = s

Debiased, the first step is lr sign(g). Without, m is a tenth and sqrt(s) about a thirtieth of what they stand for, and the first steps are three
times as large; they settle as 1 - beta2^t nears 1. Weight decay adds wd th to g, which Adam then scales like any gradient: it is L2, and no
longer weight decay. `adamw` keeps them apart.
"""

from __future__ import annotations

from typing import Any

from torch.optim import Adam, Optimizer

from cvtool.train.optimizers._torch import fastest
from cvtool.train.optimizers._undebiased import UndebiasedAdam

TAKES = ("weight_decay", "debias")
ARGUMENTS = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


def build(groups: list[dict[str, Any]], *, lr: float, beta1: float, beta2: float, eps: float, debias: bool) -> Optimizer:
    if debias:
        return fastest(Adam, groups, lr=lr, betas=(beta1, beta2), eps=eps)
    return UndebiasedAdam(groups, lr=lr, betas=(beta1, beta2), eps=eps)
