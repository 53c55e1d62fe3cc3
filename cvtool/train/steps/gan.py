"""Two players: a discriminator learns to tell made pictures from real ones, and a generator to deceive it (Goodfellow 2014, arXiv:1406.2661).

In each turn the discriminator goes first, on a batch and as many made pictures; then the generator, with fresh noise. A model for it has `generator`
and `discriminator`, `generate(z, classes)`, `judge(pictures, classes)` -> numbers, `drawn(count)` -> z and `classes_of(batch)`. Settings:

    gan_loss                   what both lose: non-saturating (-ln D(G(z)), section 3), minimax, lsgan, wgan or hinge
    gradient_penalty           its factor, 10 in WGAN-GP (arXiv:1704.00028)
    d_steps                    the discriminator's turns, each with pictures of its own, for one of the generator (algorithm 1)
    discriminator_optimizer    such as "sgd" or "adam:beta1=0", where it is not the generator's (Chintala's "SGD for D, Adam for G")
    discriminator_lr           where it is not the generator's (Heusel 2017, arXiv:1706.08500)
    discriminator_spectral_norm  each of its weights over its largest singular value, the generator's left alone (Miyato 2018, arXiv:1802.05957)
    clip_weights               its weights stay in [-c, c] (arXiv:1701.07875)
    smooth                     what it shall say of real pictures, such as 0.9 (one-sided smoothing: arXiv:1606.03498, section 3.4)
    history                    made pictures that are kept, to stand in for half of the new ones (see `_history`)
    adaptive                   TD,TG,CAP: who learns goes by what both lose (see `_balance`), and not by d_steps
    instance_noise             deviation of noise on all that the discriminator sees (Sonderby 2017, arXiv:1610.04490, section 4)
    instance_noise_turns       within which it falls to 0; 0 = never
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cvtool.batch import Batch
from cvtool.errors import UsageError
from cvtool.layers.spectral_norm import spectral_norm
from cvtool.losses._gan import Form, form
from cvtool.losses.gradient_penalty import gradient_penalty
from cvtool.train import optim
from cvtool.train.ema import Ema
from cvtool.train.step import Phase
from cvtool.train.steps._balance import Balance
from cvtool.train.steps._history import History

SETTINGS = {
    "gan_loss": "non-saturating",
    "gradient_penalty": 0.0,
    "d_steps": 1,
    "discriminator_optimizer": "",  # "": the generator's
    "discriminator_lr": 0.0,  # 0.0: the generator's
    "discriminator_spectral_norm": False,
    "clip_weights": 0.0,
    "smooth": 1.0,
    "history": 0,
    "adaptive": "",
    "instance_noise": 0.0,
    "instance_noise_turns": 0,
}
Maker = Callable[[Iterable[nn.Parameter]], Optimizer]


class GAN:
    """`model` as above; with `ema` > 0 a moving average of that decay is what counts in the end. The other words are those of the settings."""

    def __init__(
        self, model: Any, first: Maker, second: Maker, *, ema: float = 0.0, lost: Form | None = None, penalty: float = 0.0, d_steps: int = 1,
        clip_weights: float = 0.0, smooth: float = 1.0, history: int = 0, balance: Balance | None = None, noise: float = 0.0, noise_turns: int = 0,
    ) -> None:  # fmt: skip
        self.model = model
        self.players = {"discriminator": list(model.discriminator.parameters()), "generator": list(model.generator.parameters())}
        self.optimizers = {"discriminator": first(self.players["discriminator"]), "generator": second(self.players["generator"])}
        self.ema = Ema(model, ema) if ema else None
        self.lost = lost or form("non-saturating")
        self.penalty, self.d_steps, self.smooth, self.balance = penalty, d_steps, smooth, balance
        self.noise, self.noise_turns, self.turns = noise, noise_turns, 0
        self.history = History(history)
        self._told: list[Tensor] = []  # what the player whose turn it is has lost on this turn's batches
        if clip_weights:
            self.optimizers["discriminator"].register_step_post_hook(lambda *_: _clip(self.players["discriminator"], clip_weights))

    @property
    def evaluated(self) -> nn.Module:
        return self.ema.model if self.ema else self.model

    def phases(self) -> list[Phase]:
        losses = {"discriminator": self.telling, "generator": self.deceiving}
        return [Phase(name, params, losses[name], self.optimizers[name], when=self.when(name)) for name, params in self.players.items()]

    def when(self, name: str) -> Callable[[int], bool]:
        """Whether a player is due on a turn."""
        if self.balance is not None:
            return lambda turn: self.balance.now == name  # type: ignore[union-attr]
        every = self.d_steps if name == "generator" else 1
        return lambda turn: turn % every == every - 1

    def telling(self, batch: Batch) -> dict[str, Tensor]:
        """The discriminator's: `d_real` and `d_made`, and `gradient_penalty` where there is one."""
        classes = self.model.classes_of(batch)
        with torch.no_grad():
            made, shown = self.history.mixed(self.model.generate(self.model.drawn(len(batch)), classes), classes)
        real, made = self.noised(batch.images), self.noised(made)
        target = self.smooth if self.lost.targets else True
        losses = {
            "d_real": self.lost.judging(self.model.judge(real, classes), target),
            "d_made": self.lost.judging(self.model.judge(made, shown), False),
        }
        self.note(losses)
        if self.penalty:
            losses["gradient_penalty"] = self.penalty * gradient_penalty(lambda x: self.model.judge(x, classes), real, made)
        return losses

    def deceiving(self, batch: Batch) -> dict[str, Tensor]:
        """The generator's: `adversarial`, such as -ln D of what it made."""
        classes = self.model.classes_of(batch)
        made = self.model.generate(self.model.drawn(len(batch)), classes)
        losses = {"adversarial": self.lost.deceiving(self.model.judge(self.noised(made), classes))}
        self.note(losses)
        return losses

    def noised(self, pictures: Tensor) -> Tensor:
        """With this turn's instance noise."""
        left = max(0.0, 1 - self.turns / self.noise_turns) if self.noise_turns else 1.0
        return pictures + self.noise * left * torch.randn_like(pictures) if self.noise * left else pictures

    def note(self, losses: Mapping[str, Tensor]) -> None:
        if self.balance is not None:
            self._told.append(torch.stack([value.detach().float() for value in losses.values()]).sum())

    def after(self, batch: Batch) -> None:
        self.turns += 1
        if self.balance is not None:
            self.balance.told(_everywhere(torch.stack(self._told).mean()))
            self._told.clear()
        if self.ema:
            self.ema.update()

    def state_dict(self) -> dict[str, Any]:
        state = {"model": self.model.state_dict(), **{f"{name}_optimizer": one.state_dict() for name, one in self.optimizers.items()}}
        state |= {"turns": self.turns, "history": self.history.state_dict()}
        state |= {"balance": self.balance.state_dict()} if self.balance else {}
        return state | ({"ema": self.ema.state_dict()} if self.ema else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for name, one in self.optimizers.items():
            one.load_state_dict(state[f"{name}_optimizer"])
        self.turns = state["turns"]
        self.history.load_state_dict(state["history"], self.players["generator"][0].device)
        if self.balance:
            self.balance.load_state_dict(state["balance"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])


@torch.no_grad()
def _clip(params: list[nn.Parameter], limit: float) -> None:
    for p in params:
        p.clamp_(-limit, limit)


def _everywhere(loss: Tensor) -> float:
    """The mean over the processes, so that all come to the same player."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(loss)
        loss = loss / torch.distributed.get_world_size()
    return float(loss)


def make(model: Any, recipe: Mapping[str, Any], *, offline: bool = False) -> GAN:
    """The step as a recipe describes it: keys optimizer, lr and what the optimiser takes, ema, and the settings above. Raises UsageError."""
    if not all(hasattr(model, name) for name in ("generator", "discriminator", "generate", "judge", "drawn")):
        raise UsageError("the step gan trains a generator and a discriminator, which this model does not have", hint="such as -m dcgan")
    check(model, recipe)
    model.form = recipe["gan_loss"]
    if recipe["discriminator_spectral_norm"] and not spectral_norm(model.discriminator):
        raise UsageError("discriminator_spectral_norm has no effect with --spectral-norm, which has done it", hint="leave one out")
    chosen = {key: recipe[key] for key in ("lr", *optim.KEYS)}
    first = optim.make(recipe["discriminator_optimizer"] or recipe["optimizer"], **(chosen | {"lr": recipe["discriminator_lr"] or recipe["lr"]}))
    return GAN(
        model, first, optim.make(recipe["optimizer"], **chosen), ema=recipe["ema"], lost=form(recipe["gan_loss"]), penalty=recipe["gradient_penalty"],
        d_steps=recipe["d_steps"], clip_weights=recipe["clip_weights"], smooth=recipe["smooth"], history=recipe["history"],
        balance=Balance.parse(recipe["adaptive"]) if recipe["adaptive"] else None, noise=recipe["instance_noise"],
        noise_turns=recipe["instance_noise_turns"],
    )  # fmt: skip


def check(model: nn.Module, recipe: Mapping[str, Any]) -> None:
    """Raises UsageError for settings that make no sense, or none together."""
    lost = form(recipe["gan_loss"])
    for key in ("gradient_penalty", "clip_weights", "history", "instance_noise", "instance_noise_turns", "discriminator_lr"):
        if recipe[key] < 0:
            raise UsageError(f"{key} is at least 0, not {recipe[key]}")
    if recipe["d_steps"] < 1:
        raise UsageError(f"d_steps is at least 1, not {recipe['d_steps']}")
    if not 0 < recipe["smooth"] <= 1:
        raise UsageError(f"smooth={recipe['smooth']} is no target for real pictures", hint="above 0 and at most 1, such as 0.9")
    if recipe["smooth"] != 1 and not lost.targets:
        raise UsageError(f"smooth has no effect with gan_loss={recipe['gan_loss']}, which has no targets", hint="leave it out")
    if recipe["instance_noise_turns"] and not recipe["instance_noise"]:
        raise UsageError("instance_noise_turns has no effect without instance_noise", hint="such as instance_noise=0.1")
    if recipe["adaptive"] and recipe["d_steps"] != 1:
        raise UsageError("adaptive and d_steps both say whose turn it is", hint="leave one out")
    if recipe["gradient_penalty"]:
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.discriminator.modules()):  # type: ignore[union-attr]
            what = "gradient_penalty is one on each picture's own gradient, and the discriminator's batch normalisation mixes them"
            raise UsageError(what, hint="add --discriminator-norm layer (or none)")
        if recipe["compile"]:
            raise UsageError("gradient_penalty differentiates twice, which compiled code cannot", hint="leave --compile out")
    prepare, size = getattr(model, "prepare", None), getattr(model, "size", None)
    if prepare is not None and size is not None and prepare.size != size:
        what = f"the model makes pictures of {size} pixels, and --img-size says {prepare.size}"
        raise UsageError(what, hint=f"--set image_size={prepare.size} sets both; leave --img-size out")
