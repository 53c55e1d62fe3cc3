"""Initialisers by name: `apply(model, "he:uniform")` draws the weights of all linear and convolutional layers afresh.

    zeros                            every unit of a layer learns the same: to be seen, not to be used
    small[:std]  large[:std]         N(0, std^2) with 0.01, with 1: what comes through a deep network dies out, or saturates
    xavier[:normal|uniform]          variance 1 / fan-in (the texts' form)
    glorot[:normal|uniform]          variance 2 / (fan-in + fan-out) (Glorot's own, torch's `xavier_`)
    he[:normal|uniform]              variance 2 / fan-in, for ReLUs
    trunc-normal[:std]               N(0, std^2) within two std, 0.02
    bilinear                         transposed convolutions alone: as interpolation

Norms stay as they are. Biases become zero, except those that hold one value other than zero in all their elements: somebody set them to it (a
detector's prior).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from cvtool import calls
from cvtool.errors import UsageError, did_you_mean
from cvtool.ops import init

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED, nn.MultiheadAttention)
_VARIANCES = {"xavier": init.xavier, "glorot": init.glorot, "he": init.he}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "bilinear": {},
    "glorot": {"distribution": "normal"},
    "he": {"distribution": "normal"},
    "large": {"std": 1.0},
    "small": {"std": 0.01},
    "trunc-normal": {"std": 0.02},
    "xavier": {"distribution": "normal"},
    "zeros": {},
}
NAMES = tuple(ARGUMENTS)


def check(text: str) -> tuple[str, dict[str, Any]]:
    """The initialiser's name and its arguments. Raises UsageError with the right names for a wrong one."""
    call = calls.one(text, "initializer")
    if call.name not in ARGUMENTS:
        raise UsageError(f"unknown initializer '{call.name}'", hint=did_you_mean(call.name, NAMES) or "initializers: " + ", ".join(NAMES))
    options = calls.bind(call, ARGUMENTS[call.name], "initializer")
    if options.get("distribution", "normal") not in init.DISTRIBUTIONS or options.get("std", 1.0) <= 0:
        raise UsageError(f"initializer: '{text}' is none", hint="such as he:uniform, glorot:normal, trunc-normal:0.02 (a deviation above 0)")
    return call.name, options


def apply(model: nn.Module, text: str) -> int:
    """Draw the weights anew from torch's generator, in the order of the modules; returns how many tensors. To be called before weights are loaded.

    Raises UsageError where the initialiser has no effect on the model, or cannot be had for one of its layers.
    """
    name, options = check(text)
    if name == "bilinear":
        found = [module for module in model.modules() if isinstance(module, nn.ConvTranspose2d)]
        if not found:
            raise UsageError(
                "--initializer bilinear has no effect: the model has no transposed convolution", hint="he, glorot ... are for all layers"
            )
        for module in found:
            try:
                init.bilinear_(module.weight)
            except ValueError as error:
                raise UsageError(f"--initializer bilinear: {error}") from error
        return len(found)
    count = 0
    for weight, fan_in, fan_out in _weights(model):
        _draw(weight, name, fan_in, fan_out, options)
        count += 1
    for bias in _biases(model):
        nn.init.zeros_(bias)
    if not count:
        raise UsageError(f"--initializer {text} has no effect: the model has no linear or convolutional layer")
    return count


def init_bias(model: nn.Module, value: float) -> int:
    """Set the biases of linear and convolutional layers, such as to 0.01, which keeps ReLUs alive at first; returns how many tensors."""
    found = list(_biases(model))
    for bias in found:
        nn.init.constant_(bias, value)
    if not found:
        raise UsageError("--init-bias has no effect: the model's linear and convolutional layers have no biases", hint="leave it out")
    return len(found)


@torch.no_grad()
def _draw(weight: Tensor, name: str, fan_in: float, fan_out: float, options: dict[str, Any]) -> None:
    if name == "zeros":
        weight.zero_()
    elif name == "trunc-normal":
        init.trunc_normal_(weight, options["std"])
    elif name in ("small", "large"):
        weight.normal_(0, options["std"])
    else:
        variance: Callable[[float, float], float] = _VARIANCES[name]
        init.draw_(weight, variance(fan_in, fan_out), options["distribution"])


def _weights(model: nn.Module) -> Iterator[tuple[Tensor, float, float]]:
    """Each weight with its fans; the three projections of an attention that stand in one tensor one by one."""
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            stacked = [] if module.in_proj_weight is None else module.in_proj_weight.chunk(3)
            apart: list[Any] = [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]
            for weight in [*stacked, *(w for w in apart if w is not None)]:
                yield weight, *init.fans(weight)
        elif isinstance(module, _KINDS):
            own: Any = module
            more = {"transposed": True, "stride": own.stride} if isinstance(module, _TRANSPOSED) else {}
            yield own.weight, *init.fans(own.weight, groups=getattr(own, "groups", 1), **more)


def _biases(model: nn.Module) -> Iterator[Tensor]:
    for module in model.modules():
        if isinstance(module, _KINDS):
            bias = module.in_proj_bias if isinstance(module, nn.MultiheadAttention) else module.bias
            if bias is not None and not (bias[0] != 0 and bool((bias == bias[0]).all()) and len(bias) > 1):
                yield bias
