"""Newton's method for small problems: a step to the bottom of the paraboloid that has the slope and curvature of this place (Newton 1685).

    th <- th - lr H^-1 g         one weight: th <- th - lr f'/f''

A quadratic is solved in one step at lr = 1. H has k^2 entries for k weights and costs k passes backwards, its inverse k^3, so that more than `limit`
weights are refused. Directions in which the loss is flat (a softmax has one) take no step: H^-1 is the pseudo-inverse. Where the curvature is
negative the step leads uphill, to the paraboloid's stationary point. damping: added to the diagonal of H. Weight decay is the loss wd/2 |th|^2.

It cannot do with `backward` alone, and says so by `needs_loss`: before a turn's `backward`, `curvature(loss, weight)` is called with each batch's
whole loss, whose graph it reads and leaves as it was.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from cvtool.errors import UsageError

TAKES = ("weight_decay",)
ARGUMENTS = {"damping": 0.0, "limit": 2000}
FLAT = 1e-6  # of the largest curvature, below which a direction counts as flat: about float32's rounding of a sum


class Newton(Optimizer):
    """All groups share one Hessian; their learning rates may differ. Raises UsageError for more than `limit` weights."""

    needs_loss = True

    def __init__(self, params: Any, *, lr: float, damping: float = 0.0, limit: int = 2000, weight_decay: float = 0.0) -> None:
        if damping < 0:
            raise ValueError(f"damping is at least 0, not {damping}")
        super().__init__(params, {"lr": lr, "damping": damping, "weight_decay": weight_decay})
        count = sum(p.numel() for p in self._params())
        if count > limit:
            size = count * count * 4
            amount = f"{size / 1e12:,.0f} TB" if size > 1e12 else f"{size / 1e9:,.1f} GB" if size > 1e9 else f"{size / 1e6:,.0f} MB"
            hint = "take adamw or sgd; `newton:limit=N` lifts the limit"
            raise UsageError(f"newton keeps the curvature of every pair of weights: {count:,} weights would take {amount}", hint=hint)
        self._sum: Tensor | None = None
        self._weight = 0.0

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    @torch.enable_grad()
    def curvature(self, loss: Tensor, weight: float = 1.0) -> None:
        """Adds a batch's Hessian; a turn's is their mean by `weight` (the batch's pictures)."""
        params = self._params()
        slopes = torch.autograd.grad(loss, params, create_graph=True, allow_unused=True)
        flat = torch.cat([(torch.zeros_like(p) if s is None else s).flatten() for p, s in zip(params, slopes, strict=True)])
        rows = []
        for slope in flat:
            parts = torch.autograd.grad(slope, params, retain_graph=True, allow_unused=True) if slope.requires_grad else [None] * len(params)
            rows.append(torch.cat([(torch.zeros_like(p) if g is None else g).detach().flatten() for p, g in zip(params, parts, strict=True)]))
        hessian = weight * torch.stack(rows).double()  # k k
        self._sum = hessian if self._sum is None else self._sum + hessian
        self._weight += weight

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Raises RuntimeError where no curvature was given since the last step."""
        if self._sum is None:
            raise RuntimeError("newton needs the loss: call curvature(loss) before backward")
        params = self._params()
        hessian, self._sum = (self._sum + self._sum.T) / (2 * self._weight), None
        self._weight = 0.0
        slopes, rates, added = [], [], []
        for group in self.param_groups:
            for p in group["params"]:
                slope = torch.zeros_like(p) if p.grad is None else p.grad
                slopes.append((slope + group["weight_decay"] * p).flatten())
                rates.append(torch.full_like(slopes[-1], group["lr"]))
                added.append(torch.full_like(slopes[-1], group["weight_decay"] + group["damping"]))
        hessian += torch.diag(torch.cat(added).double())
        values, vectors = torch.linalg.eigh(hessian)
        inverse = torch.where(values.abs() > FLAT * values.abs().max(), 1 / values, torch.zeros_like(values))
        way = vectors @ (inverse * (vectors.T @ torch.cat(slopes).double()))
        moves = (way * torch.cat(rates).double()).split([p.numel() for p in params])
        for p, move in zip(params, moves, strict=True):
            p -= move.view_as(p).to(p)


def build(groups: list[dict[str, Any]], *, lr: float, damping: float, limit: int) -> Optimizer:
    return Newton(groups, lr=lr, damping=damping, limit=limit)
