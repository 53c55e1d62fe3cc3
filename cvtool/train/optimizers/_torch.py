"""torch's own optimisers in their fastest form: one kernel that reads and writes each weight once, where there is one."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

_FUSED = {torch.optim.SGD: ("cpu", "cuda"), torch.optim.Adam: ("cpu", "cuda"), torch.optim.AdamW: ("cpu", "cuda"), torch.optim.Adagrad: ("cpu",)}


def fastest(cls: type[Optimizer], groups: list[dict[str, Any]], **options: Any) -> Optimizer:
    """`cls(groups, **options)` with its fused kernel where all weights are float, whole and where it runs. The formula is the same."""
    params = [p for group in groups for p in group["params"]]
    kinds = _FUSED.get(cls, ())
    plain = (p.device.type in kinds and p.dtype in (torch.float32, torch.float64) and not hasattr(p, "device_mesh") for p in params)
    if not params or not all(plain):
        return cls(groups, **options)
    made = cls(groups, fused=True, **options)  # type: ignore[call-arg]
    made.register_step_pre_hook(_alike)
    made.register_load_state_dict_post_hook(_lay_out)
    return made


def _alike(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """The CPU's kernels walk over memory and take it for granted that a gradient lies as its weight does, channels last or first."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None and p.grad.stride() != p.stride():
                p.grad = torch.empty_like(p).copy_(p.grad)


def _lay_out(optimizer: Optimizer) -> None:
    """The same for averages that come from a file."""
    for p, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == p.shape and value.stride() != p.stride():
                state[key] = torch.empty_like(p, dtype=value.dtype).copy_(value)
