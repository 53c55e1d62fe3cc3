"""Supervised training: one phase that minimises the model's own losses on labelled batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from cvtool.batch import Batch
from cvtool.train import optim
from cvtool.train.ema import Ema
from cvtool.train.step import Phase


class Supervised:
    """`model.losses(batch)` and one optimiser; with `ema` > 0 a moving average of that decay is what counts in the end."""

    def __init__(self, model: nn.Module, optimizer: Callable[[Iterable[nn.Parameter]], Optimizer], *, ema: float = 0.0) -> None:
        self.model = model
        self.params = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = optimizer(self.params)
        self.ema = Ema(model, ema) if ema else None

    @property
    def evaluated(self) -> nn.Module:
        return self.ema.model if self.ema else self.model

    def phases(self) -> list[Phase]:
        return [Phase("main", self.params, self.model.losses, self.optimizer)]  # type: ignore[arg-type]

    def after(self, batch: Batch) -> None:
        if self.ema:
            self.ema.update()

    def state_dict(self) -> dict[str, Any]:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        return state | ({"ema": self.ema.state_dict()} if self.ema else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])


def make(model: nn.Module, recipe: Mapping[str, Any]) -> Supervised:
    """The step as a recipe describes it (keys optimizer, lr, weight_decay, momentum, ema)."""
    chosen = {key: recipe[key] for key in ("lr", "weight_decay", "momentum")}
    return Supervised(model, optim.make(recipe["optimizer"], **chosen), ema=recipe["ema"])
