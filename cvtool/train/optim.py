"""Optimisers by name, and which parameters they decay."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from cvtool.errors import UsageError, did_you_mean

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,  # Loshchilov 2019, arXiv:1711.05101
    "sgd": torch.optim.SGD,
}
MOMENTUM = {"sgd"}  # the ones that take a momentum


def groups(params: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: tensors of two or more axes decay; norms' scales and all biases do not."""
    params = [p for p in params if p.requires_grad]
    decayed, free = [p for p in params if p.ndim >= 2], [p for p in params if p.ndim < 2]
    return [{"params": kept, "weight_decay": decay} for kept, decay in ((decayed, weight_decay), (free, 0.0)) if kept]


def make(name: str, *, lr: float, weight_decay: float = 0.0, momentum: float = 0.9) -> Callable[[Iterable[nn.Parameter]], Optimizer]:
    """A function from parameters to the optimiser called `name`. Raises UsageError with the right names for a wrong one."""
    if name not in OPTIMIZERS:
        raise UsageError(f"unknown optimizer '{name}'", hint=did_you_mean(name, OPTIMIZERS) or "optimizers: " + ", ".join(OPTIMIZERS))
    cls = partial(OPTIMIZERS[name], lr=lr, **({"momentum": momentum} if name in MOMENTUM else {}))

    def build(params: Iterable[nn.Parameter]) -> Optimizer:
        return cls(groups(params, weight_decay))

    return build
