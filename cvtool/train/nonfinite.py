"""Where a loss or a gradient that is not finite comes from: the first layer, in the order of computing, whose result is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


def of_loss(model: nn.Module, losses: Callable[[], Any]) -> str | None:
    """Compute the losses once more and name the first layer whose output holds a NaN or an infinity; None where all are finite.

    A layer that was given such values is named too, as the place where they came in. Weights stay as they are; buffers of norms move.
    """
    found: list[str] = []

    def look(name: str, module: nn.Module, given: Any, output: Any) -> None:
        if not found and not _finite(output):
            weights = [key for key, p in module.named_parameters() if not p.isfinite().all()]
            if weights:
                why = f"whose {', '.join(weights[:3])} is not finite"
            else:
                why = "whose input is not finite" if not _finite(given) else _extent(given)
            found.append(f"{name} ({type(module).__name__}, {why})")

    handles = [
        module.register_forward_hook(lambda m, given, output, name=name: look(name, m, given, output), always_call=False)
        for name, module in model.named_modules()
        if name and not any(True for _ in module.children())
    ]
    try:
        with torch.no_grad():
            losses()
    except Exception:  # what was found until then stands; the loss that is not finite is the error to tell
        return found[0] if found else None
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def of_gradient(model: nn.Module, losses: Callable[[], dict[str, Tensor]]) -> str | None:
    """Compute losses and gradients once more and name the first layer, from the loss back, that is given a gradient which is not finite, or
    else the parameters whose gradient is not. None where all are finite. The gradients are gone afterwards."""
    found: list[str] = []

    def watch(name: str, module: nn.Module, output: Any) -> None:
        for tensor in _tensors(output):
            if tensor.requires_grad:
                tensor.register_hook(lambda gradient: _note(found, f"{name} ({type(module).__name__})", gradient))

    handles = [
        module.register_forward_hook(lambda m, given, output, name=name: watch(name, m, output))
        for name, module in model.named_modules()
        if name and not any(True for _ in module.children())
    ]
    try:
        model.zero_grad(set_to_none=True)
        torch.stack([value.float() for value in losses().values()]).sum().backward()
        if not found:
            found += [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()][:1]
    finally:
        for handle in handles:
            handle.remove()
        model.zero_grad(set_to_none=True)
    return found[0] if found else None


def _note(found: list[str], name: str, gradient: Tensor) -> None:
    if not found and not gradient.isfinite().all():
        found.append(name)


def _finite(value: Any) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in _tensors(value))


def _extent(value: Any) -> str:
    """What a layer with a finite input was given."""
    largest = max((float(tensor.abs().max()) for tensor in _tensors(value) if tensor.numel()), default=0.0)
    return f"whose input reaches {largest:.3g}"


def _tensors(value: Any) -> Iterator[Tensor]:
    """The floating tensors inside what a layer takes or gives."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)
