"""Two players: a discriminator learns to tell made pictures from real ones, and a generator to deceive it (Goodfellow 2014, arXiv:1406.2661).

In each turn the discriminator goes first, on a batch and as many made pictures; then the generator, with fresh noise, minimises -ln D(G(z)), the
non-saturating form (section 3). A model for it has `generator` and `discriminator`, `generate(z, classes)`, `judge(pictures, classes)` -> logits,
`drawn(count)` -> z and `classes_of(batch)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cvtool.batch import Batch
from cvtool.errors import UsageError
from cvtool.losses.adversarial import adversarial
from cvtool.train import optim
from cvtool.train.ema import Ema
from cvtool.train.step import Phase

SETTINGS = {"discriminator_lr": 0.0}  # 0.0: the generator's
Maker = Callable[[Iterable[nn.Parameter]], Optimizer]


class GAN:
    """`model` as above; with `ema` > 0 a moving average of that decay is what counts in the end."""

    def __init__(self, model: Any, first: Maker, second: Maker, *, ema: float = 0.0) -> None:
        self.model = model
        self.players = {"discriminator": list(model.discriminator.parameters()), "generator": list(model.generator.parameters())}
        self.optimizers = {"discriminator": first(self.players["discriminator"]), "generator": second(self.players["generator"])}
        self.ema = Ema(model, ema) if ema else None

    @property
    def evaluated(self) -> nn.Module:
        return self.ema.model if self.ema else self.model

    def phases(self) -> list[Phase]:
        losses = {"discriminator": self.telling, "generator": self.deceiving}
        return [Phase(name, params, losses[name], self.optimizers[name]) for name, params in self.players.items()]

    def telling(self, batch: Batch) -> dict[str, Tensor]:
        """The discriminator's: `d_real` and `d_made`."""
        classes = self.model.classes_of(batch)
        with torch.no_grad():
            made = self.model.generate(self.model.drawn(len(batch)), classes)
        return {
            "d_real": adversarial(self.model.judge(batch.images, classes), True),
            "d_made": adversarial(self.model.judge(made, classes), False),
        }

    def deceiving(self, batch: Batch) -> dict[str, Tensor]:
        """The generator's: `adversarial`, -ln D of what it made."""
        classes = self.model.classes_of(batch)
        made = self.model.generate(self.model.drawn(len(batch)), classes)
        return {"adversarial": adversarial(self.model.judge(made, classes), True)}

    def after(self, batch: Batch) -> None:
        if self.ema:
            self.ema.update()

    def state_dict(self) -> dict[str, Any]:
        state = {"model": self.model.state_dict(), **{f"{name}_optimizer": one.state_dict() for name, one in self.optimizers.items()}}
        return state | ({"ema": self.ema.state_dict()} if self.ema else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for name, one in self.optimizers.items():
            one.load_state_dict(state[f"{name}_optimizer"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])


def make(model: nn.Module, recipe: Mapping[str, Any], *, offline: bool = False) -> GAN:
    """The step as a recipe describes it (keys optimizer, lr and what the optimiser takes, ema, discriminator_lr). Raises UsageError."""
    if not all(hasattr(model, name) for name in ("generator", "discriminator", "generate", "judge", "drawn")):
        raise UsageError("the step gan trains a generator and a discriminator, which this model does not have", hint="such as -m dcgan")
    chosen = {key: recipe[key] for key in ("lr", *optim.KEYS)}
    rates = recipe["discriminator_lr"] or recipe["lr"], recipe["lr"]
    first, second = (optim.make(recipe["optimizer"], **(chosen | {"lr": rate})) for rate in rates)
    return GAN(model, first, second, ema=recipe["ema"])
