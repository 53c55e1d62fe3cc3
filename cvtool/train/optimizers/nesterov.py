"""Nesterov's momentum, which takes the gradient where the velocity is about to lead (Nesterov 1983; Sutskever 2013, eq. 3 and 4).

    lookahead:  v <- mu v - lr g(th + mu v),  th <- th + v
    shifted:    v <- mu v - lr g(th'),        th' <- th' + mu v - lr g(th')       with th' = th + mu v

Both walk the same way: th' is the place where the first one looks. `shifted` (the default) trains th' itself and costs one pass over the weights;
at a constant learning rate it is torch's SGD(nesterov=True). `lookahead` trains th: a turn begins with `zero_grad`, which moves the weights to
th + mu v, and ends with `step`, which takes them back and on, so that what is saved, averaged and validated between turns is th.
Weight decay adds wd times the place of the gradient to g.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from cvtool.train.optimizers._velocity import gradients, unit, velocities

TAKES = ("weight_decay", "momentum")
ARGUMENTS = {"form": "shifted"}
FORMS = ("shifted", "lookahead")


class Nesterov(Optimizer):
    """momentum: mu in [0, 1). form: shifted or lookahead."""

    def __init__(self, params: Any, *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, form: str = "shifted") -> None:
        if form not in FORMS:
            raise ValueError(f"form is {' or '.join(FORMS)}, not {form}")
        super().__init__(params, {"lr": lr, "momentum": unit("momentum", momentum), "weight_decay": weight_decay, "form": form, "ahead": False})

    @torch.no_grad()
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Also looks ahead, once a turn: a turn that a scaler left out stays where it looked."""
        super().zero_grad(set_to_none)
        for group in self.param_groups:
            if group["form"] == "lookahead" and not group["ahead"]:
                params = [p for p in group["params"] if "velocity" in self.state[p]]
                if params:
                    torch._foreach_add_(params, velocities(self, params), alpha=group["momentum"])
                group["ahead"] = True

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Raises RuntimeError in the lookahead form for a turn that did not begin with `zero_grad`."""
        for group in self.param_groups:
            params, grads = gradients(group)
            lr, mu = group["lr"], group["momentum"]
            if group["form"] == "lookahead":
                if not group["ahead"]:
                    raise RuntimeError("a turn of the lookahead form begins with zero_grad")
                group["ahead"] = False
                moved = [p for p in group["params"] if "velocity" in self.state[p]]
                if moved:
                    torch._foreach_sub_(moved, velocities(self, moved), alpha=mu)
            if not params:
                continue
            v = velocities(self, params)
            torch._foreach_mul_(v, mu)
            torch._foreach_add_(v, grads, alpha=-lr)
            if group["form"] == "lookahead":
                torch._foreach_add_(params, v)
            else:
                torch._foreach_add_(params, v, alpha=mu)
                torch._foreach_add_(params, grads, alpha=-lr)


def build(groups: list[dict[str, Any]], *, lr: float, momentum: float, form: str) -> Optimizer:
    return Nesterov(groups, lr=lr, momentum=momentum, form=form)
