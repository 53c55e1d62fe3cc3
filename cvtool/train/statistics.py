"""What happens inside a network while it learns: gradients, weights, updates and activations of each layer, every N turns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cvtool.train import regularize
from cvtool.train.compiled import eagerly


class Statistics:
    """Looks at every `every`-th optimiser turn, from the first on; between them it costs nothing.

    A layer is a module without children. Those with weights of their own report `gradient` and `weight` (L2 norms over them together) and `update`
    (the norm of the turn's change over that of the weights; 1e-3 is a usual size); all report of their output `mean`, `std`, `zeros` (share of
    exact zeros) and `dead` (share of channels that are zero everywhere in the batch; behind a ReLU: units that learn nothing from it).
    """

    def __init__(self, model: nn.Module, every: int) -> None:
        if every < 1:
            raise ValueError(f"statistics are taken every N turns, N at least 1, not {every}")
        self.model, self.every = model, every
        self.layers = {name: module for name, module in model.named_modules() if name and not any(True for _ in module.children())}
        self.weights = {
            name: params for name, module in self.layers.items() if (params := [p for p in module.parameters(recurse=False) if p.requires_grad])
        }
        self._seen: dict[str, list[float]] = {}
        self._grown: dict[str, float] = {}
        self._before: dict[str, list[Tensor]] = {}

    def due(self, turn: int) -> bool:
        """turn: counted from 0."""
        return turn % self.every == 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Collect what the layers give out meanwhile."""
        self._seen = {}
        handles = [
            module.register_forward_hook(lambda module, given, output, name=name: self._look(name, output)) for name, module in self.layers.items()
        ]
        try:
            with eagerly():
                yield
        finally:
            for handle in handles:
                handle.remove()

    def before(self) -> None:
        """Between the gradients (whole, not scaled) and the optimiser."""
        self._grown = {
            name: _norm([p.grad for p in params if p.grad is not None])
            for name, params in self.weights.items()
            if any(p.grad is not None for p in params)
        }
        self._before = {name: [p.detach().clone() for p in params] for name, params in self.weights.items() if name in self._grown}

    def after(self) -> dict[str, Any]:
        """Behind the optimiser: `layers`, each one's figures, and what `regularize.report` says of all weights."""
        found: dict[str, dict[str, float]] = {}
        for name in self.layers:
            figures: dict[str, float] = {}
            if (old := self._before.get(name)) is not None:
                size = _norm(old)
                change = _norm([p.detach() - was for p, was in zip(self.weights[name], old, strict=True)])
                figures = {"gradient": self._grown[name], "weight": size, "update": change / size if size else math.nan}
            if (sums := self._seen.get(name)) is not None:
                figures |= {key: value / sums[-1] for key, value in zip(("mean", "std", "zeros", "dead"), sums, strict=False)}
            if figures:
                found[name] = figures
        self._before, self._grown, self._seen = {}, {}, {}
        return {**regularize.report(self.model), "layers": found}

    @torch.no_grad()
    def _look(self, name: str, output: Any) -> None:
        if not isinstance(output, Tensor) or not output.is_floating_point() or not output.numel():
            return
        value = output.detach().float()
        zero = value == 0
        share = zero.float().mean()
        channels = zero.transpose(0, 1).flatten(1) if value.ndim in (2, 4) else zero.flatten(0, -2).transpose(0, 1) if value.ndim > 2 else zero[None]
        figures = torch.stack([value.mean(), value.std(correction=0), share, channels.all(1).float().mean()]).tolist()
        sums = self._seen.setdefault(name, [0.0] * 5)
        for at, figure in enumerate([*figures, 1.0]):  # a layer that is called several times: the mean of its calls
            sums[at] += figure


def _norm(tensors: list[Tensor]) -> float:
    return float(nn.utils.get_total_norm(tensors)) if tensors else 0.0
