"""Self-training: a recogniser also learns from pictures without truth, as it reads them itself (Fang 2021, arXiv:2103.06495, section 3.4).

    cvtool train -m runs/0001 --data words/ --unlabeled photos/ --self-train

What the model reads in an unlabelled picture is its pseudo-label where it is certain enough, which the model says (`certain(batch)`): the least
certain character counts, and of a model that reads in rounds the ensemble of the rounds. A picture whose certainty is not above `threshold` enters
no batch, so that a threshold of 1 keeps none. The model that is validated, a moving average where there is one, reads them all again every `refresh`
turns (algorithm 1, N_upl). A turn's losses are those of a batch with truth and some pictures with pseudo-labels (B_l and B_u), as of one batch.
Settings:

    unlabeled   a folder: the pictures in it and below
    threshold   Q, in [0, 1]
    refresh     turns between two readings of all unlabelled pictures, 0 = one each epoch
    share       pictures with a pseudo-label for each one with truth; fewer where fewer are kept, for none comes twice in a batch

In the paper the model that reads first has learned the labelled pictures. One from scratch is certain of nothing, and learns these alone until it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch
from cvtool.data import augment
from cvtool.data.dataset import Dataset
from cvtool.data.formats import pictures
from cvtool.data.loader import Loader
from cvtool.errors import UsageError
from cvtool.runtime import torchrun
from cvtool.train.state import rng_state, set_rng_state
from cvtool.train.step import Phase, Step
from cvtool.train.steps import supervised

SETTINGS = {"unlabeled": "", "threshold": 0.9, "refresh": 0, "share": 1.0}
NAME = "self-training"
_STREAM = 107  # of random numbers, apart from those of the loader and of the orders of an epoch


class SelfTraining:
    """`base` trains on labelled batches, beside which come some of the pictures of `readings` and `drawings`, two loaders of one data set.

    readings: as the model sees them in validation. drawings: as in training, augmented.
    """

    def __init__(self, base: Step, readings: Loader, drawings: Loader, *, threshold: float, refresh: int, share: float) -> None:
        self.base, self.readings, self.drawings = base, readings, drawings
        self.threshold, self.refresh, self.share = threshold, refresh, share
        self.turn = 0
        self.labels: dict[int, str] | None = None  # picture -> pseudo-label; None before the first reading
        self._own = base.phases()
        self._given: list[tuple[Batch, Batch]] = []  # (labelled, what came of it) of this turn
        self._news: list[str] = []

    @property
    def model(self) -> nn.Module:
        return self.base.model

    @property
    def evaluated(self) -> nn.Module:
        return self.base.evaluated

    def phases(self) -> list[Phase]:
        first, *rest = self._own
        return [replace(first, losses=self.losses), *rest]

    def begin_epoch(self, loader: Any, epoch: int, batch: int) -> None:
        if self.labels is None or (not self.refresh and not batch):
            self.read()

    def read(self) -> None:
        """Read all unlabelled pictures anew, and keep as pseudo-labels what is certain."""
        self.labels, device = {}, next(self.model.parameters()).device
        with undisturbed(self.evaluated):
            for item in self.readings.epoch(0):
                answers = self.evaluated.certain(item.batch.to(device))  # type: ignore[operator]
                self.labels |= {i: text for i, (text, certainty) in zip(item.indices, answers, strict=True) if text and certainty > self.threshold}
        self.taught()
        count = len(self.readings.dataset)
        said = f"self-training: {len(self.labels):,} of {count:,} unlabelled pictures are read with a certainty above {self.threshold:g}"
        self._news = [*(line for line in self._news if line.startswith("warning")), *self.readings.news(), said]

    def taught(self) -> None:
        """Give the pictures their pseudo-labels; one without has none."""
        for i, record in enumerate(self.drawings.dataset.records):
            record["text"] = (self.labels or {}).get(i, "")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The model's own, of both kinds of pictures together."""
        return self._own[0].losses(self.given(batch))

    def given(self, batch: Batch) -> Batch:
        """A labelled batch and what comes with it, the same again for the same batch of a turn."""
        for known, found in self._given:
            if known is batch:
                return found
        if self.labels is None:  # a range test of rates begins no epoch
            self.read()
        entries = self.drawn(len(batch), len(self._given))
        unlabelled = self.drawings.make(self.turn, entries).batch if entries else None
        found = joined(batch, unlabelled) if unlabelled is not None and len(unlabelled) else batch
        self._given.append((batch, found))
        return found

    def drawn(self, count: int, number: int) -> list[int]:
        """Entries of the loader for the turn's batch `number` of `count` pictures with truth; drawn by (seed, turn, number, process) alone."""
        kept, place = sorted(self.labels or ()), torchrun.place()
        number = number * place.count + place.rank
        wanted = min(len(kept), max(1, round(self.share * count)))
        chosen = np.random.default_rng((self.drawings.seed, _STREAM, self.turn, number)).permutation(len(kept))[:wanted]
        return [kept[i] + number * len(self.drawings.dataset) for i in chosen.tolist()]

    def after(self, batch: Batch) -> None:
        self.base.after(batch)
        self.turn += 1
        self._given.clear()
        if self.refresh and self.turn % self.refresh == 0:
            self.read()

    def news(self) -> list[str]:
        """What cannot be read, and how many pictures are kept since the last reading."""
        told, self._news = self._news, []
        return told

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict() | {"pseudo_labels": self.labels, "turn": self.turn, "unlabeled": self.marked()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError where the folder's pictures are others."""
        if state["unlabeled"] != self.marked():
            raise ValueError("the unlabelled pictures are not those that it was saved with")
        self.base.load_state_dict(state)
        self.labels, self.turn = state["pseudo_labels"], state["turn"]
        self._given.clear()
        self.taught()

    def marked(self) -> int:
        """A sum over the names of the pictures, wherever their folder lies."""
        return zlib.crc32("\n".join(record.name_in_root() for record in self.readings.dataset.records).encode())


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """The model in evaluation, without gradients, and afterwards as if nothing had been: its modes, and the global random numbers."""
    modes, before = [(module, module.training) for module in model.modules()], rng_state()
    try:
        with torch.no_grad():
            model.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training
        set_rng_state(before)


def joined(first: Batch, second: Batch) -> Batch:
    """One batch of both, padded to their greatest height and width, on the device and in the memory format of the first."""
    size = tuple(max(one.images.shape[axis] for one in (first, second)) for axis in (2, 3))
    images, paddings = [], []
    for one in (first, second):
        below, beside = (side - now for side, now in zip(size, one.images.shape[2:], strict=True))
        images.append(F.pad(one.images.to(first.images), (0, beside, 0, below)))
        paddings.append(F.pad(one.padding.to(first.padding.device), (0, beside, 0, below), value=True))
    together = torch.cat(images)
    if first.images.is_contiguous(memory_format=torch.channels_last) and not first.images.is_contiguous():
        together = together.contiguous(memory_format=torch.channels_last)
    return Batch(together, torch.cat(paddings), [*first.places, *second.places], [*(first.targets or []), *(second.targets or [])])


def make(model: Any, recipe: Mapping[str, Any], *, offline: bool = False) -> SelfTraining:
    """Around the supervised step (its keys, and unlabeled, threshold, refresh, share). Raises UsageError, InputError."""
    if not hasattr(model, "certain") or getattr(model, "measured", None) == "pictures":
        raise UsageError(f"the step {NAME} is for models that read words or lines", hint="such as -m abinet or -m crnn")
    if not recipe["unlabeled"]:
        raise UsageError(f"{NAME} needs pictures without truth", hint="--unlabeled DIR names their folder")
    if not 0 <= recipe["threshold"] <= 1 or recipe["refresh"] < 0 or recipe["share"] <= 0:
        raise UsageError("threshold lies in [0, 1], refresh is 0 or more turns, and share is above 0")
    if recipe["overfit"]:
        raise UsageError(f"--overfit and the step {NAME} contradict each other: it learns from other pictures too", hint="leave one out")
    records = list(pictures.read(Path(recipe["unlabeled"])))
    if not records:
        raise UsageError("the folder of unlabelled pictures has none", where=recipe["unlabeled"])
    with undisturbed(model):  # to tell now, not in the first epoch, that a model says nothing of its characters
        model.certain(model.prepare([np.zeros((32, 64, 3), np.uint8)]).to(next(model.parameters()).device))
    dataset = Dataset([record.changed(text="") for record in records], [], needs=("text",))
    changed = augment.parse(recipe["augment"], prepare=model.prepare)
    common: dict[str, Any] = {
        "batch_size": recipe["batch_size"], "seed": recipe["seed"], "unreadable": "raise" if recipe["strict"] else "drop",
        "channels_last": recipe["channels_last"],
    }  # fmt: skip
    return SelfTraining(
        supervised.make(model, recipe),
        Loader(dataset, model.prepare, shuffle=False, ahead=2 if torch.cuda.is_available() else 0, **common),
        Loader(dataset, changed.prepare or model.prepare, augment=changed.sample, **common),
        threshold=recipe["threshold"], refresh=recipe["refresh"], share=recipe["share"],
    )  # fmt: skip
