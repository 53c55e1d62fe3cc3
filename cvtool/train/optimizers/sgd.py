"""Stochastic gradient descent, with torch's momentum (Robbins 1951; Sutskever 2013).

    b <- mu b + g,  th <- th - lr b          mu = 0: th <- th - lr g

The learning rate stands outside of the velocity, as in torch, whose optimiser it is; `momentum` has it inside. The two are equal step for step
while lr does not change. Weight decay adds wd th to g, which is the gradient of wd/2 |th|^2: for this optimiser, not for Adam, L2 and weight decay
are the same.
"""

from __future__ import annotations

from typing import Any

from torch.optim import SGD, Optimizer

from cvtool.train.optimizers._torch import fastest

TAKES = ("weight_decay", "momentum")
ARGUMENTS: dict[str, Any] = {}


def build(groups: list[dict[str, Any]], *, lr: float, momentum: float) -> Optimizer:
    """momentum: mu, 0 <= mu."""
    return fastest(SGD, groups, lr=lr, momentum=momentum)
