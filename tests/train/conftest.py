"""A toy to train: a linear map with normalisation, on batches of small random pictures."""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cvtool.batch import Batch, Place
from cvtool.results import Labels
from cvtool.runtime.device import seed_everything
from cvtool.train import optim
from cvtool.train.log import Log
from cvtool.train.loop import Loop
from cvtool.train.schedule import constant
from cvtool.train.steps.supervised import Supervised


class Toy(nn.Module):
    """4 x 4 pictures -> 3 classes. `noisy`: its losses draw from every global generator, as real models' do."""

    result = Labels

    def __init__(self, *, norm: bool = False, noisy: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3) if norm else nn.Identity()
        self.linear = nn.Linear(48, 3)
        self.noisy = noisy

    def forward(self, batch: Batch) -> Tensor:
        return self.linear(self.norm(batch.images).flatten(1))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.forward(batch)
        if self.noisy:
            logits = logits * (1 + 0.1 * torch.rand(()) + 0.1 * random.random() + 0.1 * np.random.rand())  # noqa: NPY002
        labels = torch.stack([target.labels[0] for target in batch.targets or []])
        return {"class": nn.functional.cross_entropy(logits, labels), "size": 0.01 * logits.square().mean()}


@dataclass
class Item:
    batch: Batch
    names: list[str]


class Pictures:
    """`count` fixed pictures; the order depends on the epoch."""

    def __init__(self, count: int = 12, batch_size: int = 4, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.images = torch.randn(count, 3, 4, 4, generator=draw)
        self.labels = torch.randint(0, 3, (count,), generator=draw)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def item(self, indices: list[int]) -> Item:
        images = self.images[indices]
        places = [Place(4, 4, 4, 4)] * len(indices)
        targets = [Labels(self.labels[i : i + 1]) for i in indices]
        return Item(Batch(images, torch.zeros(len(images), 4, 4, dtype=torch.bool), places, targets), [f"{i}.png" for i in indices])

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Item]:
        order = np.random.default_rng(epoch).permutation(len(self.images)).tolist()
        for number in range(start, len(self)):
            yield self.item(order[number * self.batch_size : (number + 1) * self.batch_size])


@dataclass
class Keeper:
    """Keeps everything in memory."""

    states: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[tuple[dict[str, Any], bool]] = field(default_factory=list)

    def save(self, state: dict[str, Any]) -> None:
        self.states.append(deepcopy(state))  # its tensors are the live ones

    def epoch(self, model: nn.Module, values: dict[str, Any], *, best: bool) -> None:
        self.epochs.append((values, best))


@pytest.fixture(scope="session")
def toys() -> SimpleNamespace:
    """The classes above, for tests that derive from them."""
    return SimpleNamespace(Toy=Toy, Pictures=Pictures, Keeper=Keeper, Item=Item)


@pytest.fixture
def make_loop(tmp_path: Path):
    """A loop around a toy: keywords of `Loop`, and model (a function that makes it), lr, optimizer, ema, weight_decay."""

    def make(**given: Any) -> Loop:
        seed_everything(0)
        model = given.pop("model", Toy)()
        optimizer = optim.make(given.pop("optimizer", "sgd"), lr=given.pop("lr", 0.1), weight_decay=given.pop("weight_decay", 0.0))
        step = given.pop("step", None) or Supervised(model, optimizer, ema=given.pop("ema", 0.0))
        log = Log(tmp_path / f"log{len(list(tmp_path.iterdir()))}.jsonl")
        values = {
            "epochs": 2,
            "schedule": lambda turn: constant(0),
            "device": torch.device("cpu"),
            "keeper": Keeper(),
            "loader": Pictures(),
            "log": log,
        }
        return Loop(step=step, **(values | given))

    return make
