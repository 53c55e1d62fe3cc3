"""Gradient descent with momentum, the learning rate inside of the velocity (Polyak 1964; Sutskever 2013, eq. 1).

    v <- mu v - lr g,  th <- th + v

While lr stays, torch's SGD gives the same steps; when it changes, the way gone so far keeps its speed here, and torch rescales it at once.
Weight decay adds wd th to g.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from cvtool.train.optimizers._velocity import gradients, unit, velocities

TAKES = ("weight_decay", "momentum")
ARGUMENTS: dict[str, Any] = {}


class Momentum(Optimizer):
    """momentum: mu in [0, 1)."""

    def __init__(self, params: Any, *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": unit("momentum", momentum), "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params, grads = gradients(group)
            if params:
                v = velocities(self, params)
                torch._foreach_mul_(v, group["momentum"])
                torch._foreach_add_(v, grads, alpha=-group["lr"])
                torch._foreach_add_(params, v)


def build(groups: list[dict[str, Any]], *, lr: float, momentum: float) -> Optimizer:
    return Momentum(groups, lr=lr, momentum=momentum)
