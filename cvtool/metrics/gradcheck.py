"""Autograd against finite differences: whether a gradient is the slope of its function."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

STEP = 1e-6  # of a weight of size 1; the error of a central difference in float64 is about its square


def gradcheck(
    function: Callable[[], Tensor], tensors: Mapping[str, Tensor], *, samples: int = 4, step: float = STEP, seed: int = 0
) -> dict[str, float]:
    """The largest relative error of each tensor's gradient: |a - n| / max(|a|, |n|), a by autograd, n = (f(x + h) - f(x - h)) / 2h.

    function: () -> a scalar, the same for the same tensors (what it draws at random it must seed itself). tensors: leaves that it reads, in
    float64; they are put back. Of each the steepest element and `samples` - 1 others are tried. Errors are relative to a thousandth of the tensor's
    largest slope at least: below that, rounding is all that one would see. A tensor without any gradient must have no slope.
    """
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float64:
            raise ValueError(f"finite differences need float64, and {name} is {tensor.dtype}")
    draw = torch.Generator().manual_seed(seed)
    kept = {name: tensor.requires_grad for name, tensor in tensors.items()}
    for tensor in tensors.values():
        tensor.requires_grad_()
    value = function()
    slopes = torch.autograd.grad(value, list(tensors.values()), allow_unused=True)
    # the value itself is known to so many digits, and no slope to more
    rounding = 1e-14 * max(1.0, abs(float(value.detach()))) / step
    found = {}
    for (name, tensor), slope in zip(tensors.items(), slopes, strict=True):
        tensor.requires_grad_(kept[name])
        flat, whole = tensor.detach().view(-1), torch.zeros_like(tensor) if slope is None else slope
        by_autograd = whole.reshape(-1)
        least = max(1e-3 * float(by_autograd.abs().max()), 1e3 * rounding) if len(flat) else 1.0
        others = torch.randperm(len(flat), generator=draw)[: max(0, samples - 1)].tolist()
        errors = [0.0]
        for index in {int(by_autograd.abs().argmax()), *others} if len(flat) else ():
            one, other = float(by_autograd[index]), _difference(function, flat, index, step)
            errors.append(abs(one - other) / max(abs(one), abs(other), least))
        found[name] = max(errors, key=lambda error: math.inf if math.isnan(error) else error)
    return found


@torch.no_grad()
def _difference(function: Callable[[], Tensor], flat: Tensor, index: int, step: float) -> float:
    before = flat[index].clone()
    h = step * max(1.0, abs(float(before)))
    values = []
    for sign in (1, -1):
        flat[index] = before + sign * h
        values.append(float(function()))
    flat[index] = before
    return (values[0] - values[1]) / (2 * h)


@contextmanager
def in_double() -> Iterator[None]:
    """`x.float()` gives float64 meanwhile: networks that leave lower precisions for their losses would round away what is measured."""

    class Double(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.Tensor.float and args[0].is_floating_point():
                return args[0].double()
            return func(*args, **(kwargs or {}))

    with Double():
        yield
