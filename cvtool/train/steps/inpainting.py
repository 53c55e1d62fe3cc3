"""Filling holes: a generator rebuilds what was cut out, and a discriminator, where the model has one, tells it from the true pictures.

In each turn the generator goes first: its own losses, and the discriminator's doubt about the completed pictures. Then the discriminator tells these
from the whole ones (Pathak 2016, arXiv:1604.07379, section 3.2; Yu 2019, arXiv:1806.03589, section 3.2). A model for it has `generator`,
`condition(batch)`, `reconstruct(images, condition)` -> (completed, losses) and, with a `discriminator`, `judge(pictures, condition)`. Settings:

    gan_loss          what both lose: hinge, non-saturating, minimax, lsgan or wgan
    adversarial       how much the discriminator's doubt counts, beside the other losses
    discriminator_lr  where it is not the generator's
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from cvtool.batch import Batch
from cvtool.errors import UsageError
from cvtool.losses._gan import form
from cvtool.train import optim
from cvtool.train.ema import Ema
from cvtool.train.step import Phase

SETTINGS = {"gan_loss": "hinge", "adversarial": 1.0, "discriminator_lr": 0.0}  # lr 0.0: the generator's
Maker = Callable[[Iterable[nn.Parameter]], Optimizer]


class Inpainting:
    """`model` as above; its `form` and `share` say what is lost. With `ema` > 0 a moving average of that decay is what counts in the end."""

    def __init__(self, model: Any, generator: Maker, discriminator: Maker, *, ema: float = 0.0) -> None:
        self.model, self.lost = model, form(model.form)
        self.players = {"generator": list(model.generator.parameters())}
        self.optimizers = {"generator": generator(self.players["generator"])}
        if model.discriminator is not None:
            self.players["discriminator"] = list(model.discriminator.parameters())
            self.optimizers["discriminator"] = discriminator(self.players["discriminator"])
        self.ema = Ema(model, ema) if ema else None
        self._made: list[tuple[Tensor, Tensor]] = []  # (completed, condition) of this turn's batches

    @property
    def evaluated(self) -> nn.Module:
        return self.ema.model if self.ema else self.model

    def phases(self) -> list[Phase]:
        losses = {"generator": self.filling, "discriminator": self.telling}
        return [Phase(name, params, losses[name], self.optimizers[name]) for name, params in self.players.items()]

    def filling(self, batch: Batch) -> dict[str, Tensor]:
        """The generator's: those of the model, and `adversarial`."""
        told = self.model.condition(batch)
        made, losses = self.model.reconstruct(batch.images, told)
        if self.model.discriminator is None:
            return losses
        self._made.append((made.detach(), told))
        return losses | {"adversarial": self.model.share * self.lost.deceiving(self.model.judge(made, told))}

    def telling(self, batch: Batch) -> dict[str, Tensor]:
        """The discriminator's: `d_real` and `d_made`, on the pictures of the generator's turn with this batch."""
        made, told = self._made.pop(0)
        return {
            "d_real": self.lost.judging(self.model.judge(batch.images, told), True),
            "d_made": self.lost.judging(self.model.judge(made, told), False),
        }

    def after(self, batch: Batch) -> None:
        self._made.clear()
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


def make(model: Any, recipe: Mapping[str, Any], *, offline: bool = False) -> Inpainting:
    """The step as a recipe describes it: keys optimizer, lr and what the optimiser takes, ema, and the settings above. Raises UsageError."""
    if not all(hasattr(model, name) for name in ("generator", "discriminator", "condition", "reconstruct")):
        raise UsageError("the step inpainting trains models that fill holes, and this is none", hint="such as -m deepfill-v2")
    for key in ("adversarial", "discriminator_lr"):
        if recipe[key] < 0:
            raise UsageError(f"{key} is at least 0, not {recipe[key]:g}")
    if model.discriminator is None and (idle := [key for key, usual in SETTINGS.items() if recipe[key] != usual]):
        raise UsageError(f"{idle[0]} has no effect on a model without a discriminator", hint="leave it out")
    form(recipe["gan_loss"])
    model.form, model.share = recipe["gan_loss"], recipe["adversarial"]
    if (size := getattr(model, "size", None)) is not None and model.prepare.size != size:
        what = f"the model fills pictures of {size} pixels, and --img-size says {model.prepare.size}"
        raise UsageError(what, hint=f"--set image_size={model.prepare.size} sets both; leave --img-size out")
    if hasattr(model, "ready"):
        model.ready(offline=offline)
    chosen = {key: recipe[key] for key in ("lr", *optim.KEYS)}
    second = optim.make(recipe["optimizer"], **(chosen | {"lr": recipe["discriminator_lr"] or recipe["lr"]}))
    return Inpainting(model, optim.make(recipe["optimizer"], **chosen), second, ema=recipe["ema"])
