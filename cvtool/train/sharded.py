"""Fully sharded training: each process holds a part of every weight, its gradient and its optimiser's state (Zhao 2023, arXiv:2304.11277).

torch's `fully_shard` around each block of the model and around the whole. What is saved is whole, as one process would save it: it can be
resumed by any number of processes, sharded or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cvtool.errors import UsageError

_WITHOUT = ("compile", "ema", "l1", "spectral_norm", "statistics")  # what looks at whole weights


def check(recipe: Mapping[str, Any]) -> None:
    """Raises UsageError for what does not go together with fsdp."""
    for key in _WITHOUT:
        if recipe[key]:
            raise UsageError(f"{key} does not go with fsdp, where no process sees whole weights", hint=f"leave {key} out")
    if recipe["step"] != "supervised":
        raise UsageError(f"fsdp goes with step=supervised, not {recipe['step']}", hint="leave fsdp out")
    if recipe["precision"] == "fp16":
        raise UsageError("fsdp does not go with --precision fp16", hint="use bf16, which needs no scaling of the loss")


class Sharded:
    """A model in parts. Made in place, before the optimiser that is to see the parts."""

    def __init__(self, model: nn.Module, device: torch.device, size: int) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

        self.model = model
        self._plain = deepcopy(model).cpu()  # to save from
        mesh = init_device_mesh(device.type, (size,))
        for block in blocks(model):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        for name in ("losses", "predict"):
            register_fsdp_forward_method(model, name)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                if hasattr(module, "set_force_sum_reduction_for_comms"):  # gloo knows no other
                    module.set_force_sum_reduction_for_comms(True)
                module.set_gradient_divide_factor(1.0)  # the losses are shares already
        for buffer in model.buffers():
            buffer.data = buffer.data.to(device)

    def last(self, yes: bool) -> None:
        """Whether the next backward pass is a turn's last, behind which gradients are added up."""
        self.model.set_requires_gradient_sync(yes)  # type: ignore[operator]

    def whole(self) -> nn.Module:
        """The model in one piece, on the CPU; every process must call it."""
        self._plain.load_state_dict(gathered(self.model.state_dict()))
        return self._plain.eval()

    def load(self, step: Any, state: dict[str, Any], optimizers: Iterable[Optimizer]) -> None:
        """A whole state of the step, each process its part."""
        own = self.model.state_dict()
        step.load_state_dict(state | {"model": {key: _like(value, own[key]) for key, value in state["model"].items()}})
        for optimizer in optimizers:
            for p, values in optimizer.state.items():
                values.update({name: _like(value, p) for name, value in values.items() if isinstance(value, Tensor) and value.shape == p.shape})


def blocks(model: nn.Module) -> list[nn.Module]:
    """The parts that a network is stacked from: what has parts of its own and stands in a Sequential or a ModuleList, inner ones of these aside."""
    found: list[nn.Module] = []

    def walk(module: nn.Module) -> None:
        for child in module.children():
            stacked = isinstance(module, nn.Sequential | nn.ModuleList) and not isinstance(child, nn.Sequential | nn.ModuleList)
            if stacked and any(True for _ in child.children()) and any(True for _ in child.parameters()):
                found.append(child)
            else:
                walk(child)

    walk(model)
    return found


def gathered(value: Any) -> Any:
    """The same with whole tensors on the CPU where there were parts; every process must call it on the same."""
    from torch.distributed.tensor import DTensor

    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, dict):
        return {key: gathered(one) for key, one in value.items()}
    return [gathered(one) for one in value] if isinstance(value, list) else value


def _like(value: Tensor, own: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(own, DTensor) or isinstance(value, DTensor):
        return value
    return distribute_tensor(value.to(own.device_mesh.device_type), own.device_mesh, own.placements)
