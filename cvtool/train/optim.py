"""Optimisers by name and arguments, and which weights they decay: `adamw`, `nesterov:form=lookahead`, `torch:Adamax`, `timm:lamb`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from cvtool import calls
from cvtool.errors import UsageError, did_you_mean
from cvtool.runtime.torchvision import cheap_import
from cvtool.train import optimizers

KEYS = ("momentum", "debias", "weight_decay")  # the recipe's, beside lr
Params = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
_OURS = {"lr", "weight_decay", "foreach", "fused", "capturable", "differentiable", "maximize"}  # of torch's optimisers, not to be typed


def make(text: str, *, lr: float, weight_decay: float = 0.0, momentum: float = 0.9, debias: bool = True) -> Callable[[Params], Optimizer]:
    """A function from parameters, or from torch's groups of them, to the optimiser that `text` calls for.

    What the call says of momentum, debias or weight_decay outdoes the keyword. Raises UsageError with the right names for a wrong one, and for
    values that the optimiser refuses.
    """
    call = calls.one(text, "optimizer")
    takes, build = _found(call)
    shared = {"weight_decay": weight_decay, "momentum": momentum, "debias": debias}
    bound = calls.bind(call, takes | {key: shared[key] for key in KEYS if key in _keys(call.name)}, "optimizer")
    decay = bound.pop("weight_decay", None)

    def made(params: Params) -> Optimizer:
        split = groups(params, decay or 0.0)
        if decay is None:
            split = [{key: value for key, value in group.items() if key != "weight_decay"} for group in split]
        return build(split, lr=lr, **bound)

    try:
        made([nn.Parameter(torch.zeros(1))])  # a wrong value is told before any model is built
    except (ValueError, TypeError) as error:
        raise UsageError(f"optimizer {call}: {str(error).splitlines()[0]}") from error
    return made


def takes(text: str) -> set[str]:
    """Which of `KEYS` a recipe may set for this optimiser: those that it has and the call leaves open. Raises UsageError."""
    call = calls.one(text, "optimizer")
    arguments, _ = _found(call)
    keys = [key for key in KEYS if key in _keys(call.name)]
    positions = [*arguments, *keys][: len(call.args)]
    return set(keys) - set(call.kwargs) - set(positions)


def taking(key: str) -> list[str]:
    """Our optimisers on which one of `KEYS` has an effect."""
    return [name for name in optimizers.names() if key in optimizers.get(name).TAKES]


def groups(params: Params, weight_decay: float) -> list[dict[str, Any]]:
    """Each group in two: tensors of two or more axes decay; norms' scales and all biases do not.

    Of plain parameters those that are frozen are left out; groups stay as they are made, with their `lr` and their own `weight_decay`, if any.
    """
    given: list[Any] = list(params)
    found = []
    if not given or not isinstance(given[0], dict):
        given = [{"params": [p for p in given if p.requires_grad]}]
    for group in given:
        members = list(group["params"])
        decayed, free = [p for p in members if p.ndim >= 2], [p for p in members if p.ndim < 2]
        for kept, decay in ((decayed, group.get("weight_decay", weight_decay)), (free, 0.0)):
            if kept:
                found.append(group | {"params": kept, "weight_decay": decay})
    if not found:
        raise UsageError("there is nothing to train: every parameter is frozen")
    return found


def _found(call: calls.Call) -> tuple[dict[str, Any], Callable[..., Optimizer]]:
    """The arguments of an optimiser with their defaults, and what builds it of groups. Raises UsageError."""
    if ":" not in call.name:
        module = optimizers.get(call.name)
        return dict(module.ARGUMENTS), module.build
    cls = _foreign(call.name)
    arguments: dict[str, Any] = {}
    betas = 0
    for name, parameter in list(inspect.signature(cls).parameters.items())[1:]:
        if name == "betas" and isinstance(parameter.default, tuple):
            betas = len(parameter.default)
            arguments |= {f"beta{i}": value for i, value in enumerate(parameter.default, 1)}
        elif name not in _OURS and parameter.kind is not parameter.VAR_KEYWORD:
            arguments[name] = None if parameter.default is parameter.empty else parameter.default

    def build(groups: list[dict[str, Any]], **options: Any) -> Optimizer:
        if betas:
            options["betas"] = tuple(options.pop(f"beta{i}") for i in range(1, betas + 1))
        return cls(groups, **options)

    return arguments, build


def _keys(name: str) -> tuple[str, ...]:
    """The recipe's keys that an optimiser takes; a foreign one's other arguments are its own, to be given in the call."""
    if ":" not in name:
        return optimizers.get(name).TAKES
    return ("weight_decay",) if "weight_decay" in inspect.signature(_foreign(name)).parameters else ()


def _foreign(name: str) -> Callable[..., Optimizer]:
    """`torch:NAME` or `timm:NAME`. Raises UsageError with the right names for a wrong one."""
    source, _, inner = name.partition(":")
    if source == "timm":
        with cheap_import():
            from timm.optim import get_optimizer_class, list_optimizers
        known = [str(inner) for inner in list_optimizers()]
        if inner in known:
            return get_optimizer_class(inner)
    elif source == "torch":
        # two want another loop (a closure, sparse gradients)
        classes = {key: value for key, value in vars(torch.optim).items() if isinstance(value, type) and issubclass(value, Optimizer)}
        known = [key for key in classes if key not in ("Optimizer", "LBFGS", "SparseAdam")]
        if inner in known:
            return classes[inner]
    else:
        raise UsageError(f"unknown optimizer '{name}'", hint="optimizers: " + ", ".join([*optimizers.names(), "torch:NAME", "timm:NAME"]))
    raise UsageError(f"{source} has no optimizer '{inner}'", hint=did_you_mean(inner, known) or f"it has {', '.join(known)}")
