"""Adam and AdamW without the debiasing, which torch's cannot leave out."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from cvtool.train.optimizers._velocity import gradients, unit, velocities


class UndebiasedAdam(Optimizer):
    """m <- beta1 m + (1 - beta1) g, s <- beta2 s + (1 - beta2) g^2, th <- th - lr m / (sqrt(s) + eps).

    coupled: weight decay goes into g (Adam), else th shrinks by lr wd th beside it (AdamW).
    """

    def __init__(self, params: Any, *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float = 0.0, coupled: bool = True) -> None:
        betas = unit("beta1", betas[0]), unit("beta2", betas[1])
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "coupled": coupled})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params, grads = gradients(group, coupled=group["coupled"])
            if not params:
                continue
            beta1, beta2 = group["betas"]
            m, s = velocities(self, params, "mean"), velocities(self, params, "square")
            torch._foreach_lerp_(m, grads, 1 - beta1)
            torch._foreach_mul_(s, beta2)
            torch._foreach_addcmul_(s, grads, grads, value=1 - beta2)
            if not group["coupled"]:
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            below = torch._foreach_sqrt(s)
            torch._foreach_add_(below, group["eps"])
            torch._foreach_addcdiv_(params, m, below, value=-group["lr"])
