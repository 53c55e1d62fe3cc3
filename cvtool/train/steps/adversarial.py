"""Reconstruction with an adversary: a model of pictures and a discriminator take turns (Pathak 2016, arXiv:1604.07379; Ledig 2016, arXiv:1609.04802).

Chosen by an adversarial term in the loss, `--loss l1:1,adv:0.01`. On each batch the model goes first: its own terms, and the discriminator's doubt
about what it made, times the term's weight. Then the discriminator tells those pictures from the true ones. With weight 0 the model is trained to
the bit as if there were no discriminator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cvtool.batch import Batch
from cvtool.errors import UsageError
from cvtool.layers.patch_discriminator import PatchDiscriminator
from cvtool.losses.adversarial import adversarial
from cvtool.train import optim
from cvtool.train.step import Phase, Step
from cvtool.train.steps import supervised
from cvtool.train.steps._watched import Watched

SETTINGS = {"discriminator_width": 64, "discriminator_layers": 3, "discriminator_lr": 0.0}  # lr 0.0: the model's


class Adversarial:
    """`base` trains the model on its own terms; `weight` is that of the adversarial one. discriminator: B 3 H W -> logits of any shape."""

    def __init__(self, base: Step, watched: Watched, discriminator: nn.Module, optimizer: Optimizer, *, weight: float) -> None:
        self.base, self.watched, self.discriminator, self.optimizer, self.weight = base, watched, discriminator, optimizer, weight
        self._own = base.phases()
        self._made: list[tuple[Tensor, Tensor]] = []  # (made, true) of this turn's batches

    @property
    def model(self) -> nn.Module:
        return self.base.model

    @property
    def evaluated(self) -> nn.Module:
        return self.base.evaluated

    def phases(self) -> list[Phase]:
        first, *rest = self._own
        second = Phase("discriminator", list(self.discriminator.parameters()), self.telling, self.optimizer)
        return [replace(first, losses=self.deceiving), *rest, second]

    def deceiving(self, batch: Batch) -> dict[str, Tensor]:
        """The model's own losses, and `adversarial`: -ln D of what it made."""
        losses, made, true = self.watched.of(lambda: self._own[0].losses(batch))
        self._made.append((made.detach(), true.detach()))
        return losses | {"adversarial": self.weight * adversarial(self.discriminator(_rgb(made)), True)}

    def telling(self, batch: Batch) -> dict[str, Tensor]:
        """The discriminator's: `d_real` and `d_made`, on the pictures of the model's turn with this batch."""
        made, true = self._made.pop(0)
        return {
            "d_real": adversarial(self.discriminator(_rgb(true)), True),
            "d_made": adversarial(self.discriminator(_rgb(made)), False),
        }

    def after(self, batch: Batch) -> None:
        self._made.clear()
        self.base.after(batch)

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict() | {"discriminator": self.discriminator.state_dict(), "discriminator_optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.base.load_state_dict(state)
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["discriminator_optimizer"])


def _rgb(pictures: Tensor) -> Tensor:
    return pictures.expand(-1, 3, -1, -1)


def make(model: nn.Module, recipe: Mapping[str, Any], *, offline: bool = False) -> Adversarial:
    """Around the supervised step (its keys, and discriminator_width, discriminator_layers, discriminator_lr). Raises UsageError."""
    criterion = getattr(model, "criterion", None)
    if criterion is None or not any(term.name == "adversarial" for term in criterion.terms):
        raise UsageError("the step adversarial has nothing to do without an adversarial term", hint="such as --loss l1:1,adv:0.01")
    watched = Watched(criterion)
    model.criterion = watched  # type: ignore[assignment]
    base = supervised.make(model, recipe)
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]):  # the model's own random numbers are as they would be without a discriminator
        torch.manual_seed(recipe["seed"])
        discriminator = PatchDiscriminator(width=recipe["discriminator_width"], layers=recipe["discriminator_layers"]).to(device)
    rate = recipe["discriminator_lr"] or recipe["lr"]
    optimizer = optim.make(recipe["optimizer"], **{key: recipe[key] for key in optim.takes(recipe["optimizer"])}, lr=rate)
    return Adversarial(base, watched, discriminator, optimizer(discriminator.parameters()), weight=criterion.weight("adversarial"))
