"""torch.compile for a model that is trained: its forward, wherever the losses call it; names of tensors and checkpoints stay as they are."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from cvtool.errors import MissingDependency
from cvtool.train.state import rng_state, set_rng_state


def check(device: torch.device) -> None:
    """Raises MissingDependency where there is no compiler for the device."""
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise MissingDependency("--compile needs Triton for a GPU, and it is not installed", hint="pip install triton, or leave --compile out")
        return
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++", "cl"]
    if not any(shutil.which(name) for name in names):
        raise MissingDependency(f"--compile needs a C++ compiler, and there is none ({', '.join(names)})", hint="install g++, or leave --compile out")


def eagerly() -> AbstractContextManager:
    """A context in which nothing runs compiled, for compiled code calls no hooks."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def apply(model: nn.Module, losses: Callable[[], Any], *, fixed: bool, backend: str = "inductor") -> list[str]:
    """Compile the outermost modules that computing the losses calls; returns their names.

    The losses are computed once to see which these are, without gradients, in eval mode, and no random number is spent. Targets and the loss
    itself stay in Python: they are of another size for each picture. fixed: every batch is of the same few sizes, and each gets code of its own,
    so that a resumed run computes with the same code; else one code serves all sizes.
    """
    outermost = called(model, losses)
    names = {id(module): name for name, module in model.named_modules()}
    for module in outermost:
        module.compile(backend=backend, dynamic=False if fixed else None)
    return [names.get(id(module), type(module).__name__) for module in outermost]


def called(model: nn.Module, losses: Callable[[], Any]) -> list[nn.Module]:
    """The outermost modules that are called while the losses are computed, in the order of their first calls."""
    found: dict[int, nn.Module] = {}
    depth = 0

    def enter(module: nn.Module, given: Any) -> None:
        nonlocal depth
        if not depth:
            found.setdefault(id(module), module)
        depth += 1

    def leave(module: nn.Module, given: Any, output: Any) -> None:
        nonlocal depth
        depth -= 1

    handles = []
    for module in model.modules():
        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]
    modes = [(module, module.training) for module in model.modules()]
    before = rng_state()
    try:
        model.eval()
        with torch.no_grad():
            losses()
    finally:
        set_rng_state(before)
        for handle in handles:
            handle.remove()
        for module, was in modes:
            module.training = was
    return list(found.values())
