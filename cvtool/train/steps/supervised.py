"""Supervised training: one phase that minimises the model's own losses on labelled batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from cvtool.batch import Batch
from cvtool.train import optim, regularize
from cvtool.train.ema import Ema
from cvtool.train.step import Phase


class Supervised:
    """`model.losses(batch)` and one optimiser; with `ema` > 0 a moving average of that decay is what counts in the end.

    penalty: the losses of the weights themselves, by name, once a batch. groups: of the parameters that learn, where their rates differ.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        *,
        ema: float = 0.0,
        penalty: Callable[[nn.Module], dict[str, Tensor]] | None = None,
        groups: list[dict[str, Any]] | None = None,
    ) -> None:
        self.model, self.penalty = model, penalty
        self.params = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = optimizer(self.params if groups is None else groups)
        self.ema = Ema(model, ema) if ema else None

    @property
    def evaluated(self) -> nn.Module:
        return self.ema.model if self.ema else self.model

    def phases(self) -> list[Phase]:
        return [Phase("main", self.params, self.losses, self.optimizer)]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The model's, and the penalties."""
        found = self.model.losses(batch)  # type: ignore[operator]
        return found if self.penalty is None else found | self.penalty(self.model)

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


def make(model: nn.Module, recipe: Mapping[str, Any], kind: type[Supervised] = Supervised, *, offline: bool = False) -> Supervised:
    """The step as a recipe describes it (keys optimizer, lr, weight_decay, momentum, debias, ema, l1). kind: its class."""
    chosen = {key: recipe[key] for key in ("lr", *optim.KEYS)}
    penalty = (lambda trained: regularize.penalty(trained, recipe)) if recipe["l1"] else None
    return kind(model, optim.make(recipe["optimizer"], **chosen), ema=recipe["ema"], penalty=penalty, groups=recipe.get("groups"))
