"""Metric learning: batches of m classes by k pictures, and triples that a miner picks from them (Schroff 2015, arXiv:1503.03832; Hermans 2017).

| `miner` | which triples of a batch teach |
| --- | --- |
| all | all |
| semi-hard:M | right already, but not by M in squared distance (0.2) |
| hard | for each anchor and positive the nearest negative, where it is nearer than the positive |
| staged:E | all for E epochs (5), then for each anchor and positive the negative that is as far as the positive |

It goes with losses that read triples: `--loss triplet:margin=0.2 --set miner=semi-hard`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cvtool import calls
from cvtool.batch import Batch
from cvtool.data import groups
from cvtool.errors import UsageError, did_you_mean
from cvtool.ops import mining
from cvtool.train.step import Phase, Step
from cvtool.train.steps import supervised

SETTINGS = {"images_per_class": 4, "miner": "all"}
MINERS = ("all", "semi-hard", "hard", "staged")


class Miner:
    """(embeddings B D, labels B) -> triples T 3. `epoch` is set by the step."""

    def __init__(self, text: str) -> None:
        call = calls.one(text, "miner")
        if call.name not in MINERS:
            raise UsageError(f"unknown miner '{call.name}'", hint=did_you_mean(call.name, MINERS) or "miners: " + ", ".join(MINERS))
        known: dict[str, dict[str, Any]] = {"semi-hard": {"margin": 0.2}, "staged": {"epochs": 5}}
        given = calls.bind(call, known.get(call.name, {}), "miner")
        self.name, self.margin, self.warmup, self.epoch = call.name, given.get("margin", 0.0), given.get("epochs", 0), 0
        if (self.name == "semi-hard" and self.margin <= 0) or self.warmup < 0:
            raise UsageError(f"miner: {text} picks nothing", hint="semi-hard takes a margin above 0, staged epochs from 0 on")

    def __call__(self, z: Tensor, labels: Tensor) -> Tensor:
        if self.name == "all" or self.epoch < self.warmup:
            return mining.triples(labels)
        with torch.no_grad():
            far = mining.squared_distances(z.detach().float())
        if self.name == "semi-hard":
            return mining.semi_hard(far, labels, self.margin)
        return mining.hard(far, labels) if self.name == "hard" else mining.as_far(far.sqrt(), labels)


class MetricLearning:
    """`base` trains; `images_per_class` pictures of each class are in a batch, any as they come if it is 0."""

    def __init__(self, base: Step, miner: Miner, *, images_per_class: int, batch: int, seed: int) -> None:
        self.base, self.miner = base, miner
        self.images_per_class, self.batch, self.seed = images_per_class, batch, seed
        self._groups: groups.Groups | None = None

    @property
    def model(self) -> nn.Module:
        return self.base.model

    @property
    def evaluated(self) -> nn.Module:
        return self.base.evaluated

    def phases(self) -> list[Phase]:
        return self.base.phases()

    def begin_epoch(self, loader: Any, epoch: int, batch: int) -> None:
        self.miner.epoch = epoch
        if self.images_per_class:
            self._groups = self._groups or groups.groups(loader.dataset, self.images_per_class, self.batch, self.seed)
            loader.sampler = self._groups

    def after(self, batch: Batch) -> None:
        self.base.after(batch)

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.base.load_state_dict(state)


def make(model: nn.Module, recipe: Mapping[str, Any], *, offline: bool = False) -> MetricLearning:
    """Around the supervised step (its keys, and images_per_class, miner). Raises UsageError."""
    check(model, recipe)
    miner = Miner(recipe["miner"])
    criterion: Any = model.criterion
    if miner.name != "all":
        if not hasattr(model, "miner") or criterion is None or "triples" not in criterion.beside:
            what = f"miner={recipe['miner']} has no effect: {recipe['loss'] or 'the loss of this model'} does not read triples"
            raise UsageError(what, hint="it goes with --loss triplet and --loss angular-triplet on siamese")
        model.miner = miner  # type: ignore[assignment]
    base = supervised.make(model, recipe)
    return MetricLearning(base, miner, images_per_class=recipe["images_per_class"], batch=recipe["batch_size"], seed=recipe["seed"])


def check(model: nn.Module, recipe: Mapping[str, Any]) -> None:
    """Raises UsageError for a model of another kind, and for settings that contradict each other."""
    if getattr(model, "criterion_kind", "") != "embeddings" or "labels" not in getattr(model, "needs", ()):
        raise UsageError(f"the step {recipe['step']} is for embedders that learn from classes", hint="such as -m siamese")
    per = recipe["images_per_class"]
    groups.check(per, recipe["batch_size"])
    if per and recipe["balance"] != "none":
        raise UsageError("balance and images_per_class both say which pictures come", hint="leave one out")
