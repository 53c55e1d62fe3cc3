"""Self-supervision: supervised by its own pictures, a model also moves on after each turn: a target's average, a bank of negatives (Grill 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from cvtool.batch import Batch
from cvtool.errors import UsageError
from cvtool.train.steps import supervised
from cvtool.train.steps.supervised import Supervised


class SelfSupervised(Supervised):
    """After each turn `model.advance()`, before the moving average takes it in."""

    def begin_epoch(self, loader: Any, epoch: int, batch: int) -> None:
        """Raises UsageError where a batch can never hold what the model compares."""
        if hasattr(self.model, "check_batch"):
            self.model.check_batch(min(len(loader.dataset), loader.batch_size))  # type: ignore[operator]

    def after(self, batch: Batch) -> None:
        self.model.advance()  # type: ignore[operator]
        super().after(batch)


def make(model: nn.Module, recipe: Mapping[str, Any], *, offline: bool = False) -> SelfSupervised:
    """With the keys of the supervised step. Raises UsageError."""
    if not hasattr(model, "advance"):
        raise UsageError("the step self-supervised is for models that learn from two views of a picture", hint="such as -m simclr or -m byol")
    if hasattr(model, "begin"):
        model.begin()  # type: ignore[operator]
    return supervised.make(model, recipe, SelfSupervised)  # type: ignore[return-value]
