"""Optimisers, one a file, found by its name. A list of them imports nothing.

A file has a docstring with its equation, and

    TAKES = ("weight_decay", "momentum")   the recipe's keys that have an effect on it: some of weight_decay, momentum, debias
    ARGUMENTS = {"beta": 0.9}              what `--optimizer NAME:0.9` or NAME:beta=0.9 may say, with its default
    build(groups, *, lr, **both) -> torch.optim.Optimizer

`groups` are torch's, with their weight decay in them. In the equations th are the weights, g their gradient, lr the learning rate.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from cvtool.errors import UsageError, did_you_mean


def names() -> list[str]:
    return sorted(path.stem.replace("_", "-") for path in Path(__file__).parent.glob("[!_]*.py"))


def get(name: str) -> ModuleType:
    """The module of one optimiser. Raises UsageError with the right names for a wrong one."""
    if name not in names():
        hint = did_you_mean(name, names()) or "optimizers: " + ", ".join([*names(), "torch:NAME", "timm:NAME"])
        raise UsageError(f"unknown optimizer '{name}'", hint=hint)
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
