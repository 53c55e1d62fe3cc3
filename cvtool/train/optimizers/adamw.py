"""AdamW: Adam, and beside it a decay that no average touches (Loshchilov 2019, arXiv:1711.05101, algorithm 2).

    th <- th - lr wd th - lr m' / (sqrt(s') + eps)        m', s' as in `adam`

The decay is lr wd, as in torch, whose optimiser it is, so that it follows the schedule. The texts print th - ... - lambda th: their lambda is lr wd.
"""

from __future__ import annotations

from typing import Any

from torch.optim import AdamW, Optimizer

from cvtool.train.optimizers._torch import fastest
from cvtool.train.optimizers._undebiased import UndebiasedAdam

TAKES = ("weight_decay", "debias")
ARGUMENTS = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


def build(groups: list[dict[str, Any]], *, lr: float, beta1: float, beta2: float, eps: float, debias: bool) -> Optimizer:
    if debias:
        return fastest(AdamW, groups, lr=lr, betas=(beta1, beta2), eps=eps)
    return UndebiasedAdam(groups, lr=lr, betas=(beta1, beta2), eps=eps, coupled=False)
