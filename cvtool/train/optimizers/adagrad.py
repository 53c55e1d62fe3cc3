"""AdaGrad: every weight's rate shrinks with the squares of the gradients it has seen (Duchi 2011, section 1.1).

    s <- s + g^2,  th <- th - lr g / (sqrt(s) + eps)

eps stands outside of the root. s never falls, so the steps die away, and a long valley may not be walked to its end. torch's optimiser.
Weight decay adds wd th to g.
"""

from __future__ import annotations

from typing import Any

from torch.optim import Adagrad, Optimizer

from cvtool.train.optimizers._torch import fastest

TAKES = ("weight_decay",)
ARGUMENTS = {"eps": 1e-10}


def build(groups: list[dict[str, Any]], *, lr: float, eps: float) -> Optimizer:
    return fastest(Adagrad, groups, lr=lr, eps=eps)
