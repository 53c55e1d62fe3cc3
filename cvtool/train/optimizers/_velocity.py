"""What our own optimisers share: gradients with their weight decay, averages beside the weights, checks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def gradients(group: dict[str, Any], *, coupled: bool = True) -> tuple[list[Tensor], list[Tensor]]:
    """The group's weights that have a gradient, and g + wd th of each (g alone unless `coupled`)."""
    params = [p for p in group["params"] if p.grad is not None]
    grads = [p.grad for p in params]
    if params and coupled and group["weight_decay"]:
        grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
    return params, grads


def velocities(optimizer: Optimizer, params: list[Tensor], name: str = "velocity") -> list[Tensor]:
    """A tensor beside each weight, kept in the optimiser's state under `name`; zero at first."""
    found = []
    for p in params:
        state = optimizer.state[p]
        if name not in state:
            state[name] = torch.zeros_like(p)
        found.append(state[name])
    return found


def unit(name: str, value: float) -> float:
    """The value, in [0, 1). Raises ValueError."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} lies in [0, 1), not {value}")
    return value
