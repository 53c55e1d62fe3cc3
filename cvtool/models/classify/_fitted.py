"""Classifiers that are fitted in one go: pictures as rows of a table of features, and what fitting leaves as the model's tensors.

features: what a row is. `pixels` (the picture stretched to a small square, R, G and B), `handcrafted` (colour and gradient histograms), or any
model that embeds, trained or not: `resnet.18@imagenet`, `runs/0003`. `components` > 0 keeps so many principal components of it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cvtool import registry, weights
from cvtool.batch import Batch, Prepare
from cvtool.categories import Categories, numbered
from cvtool.errors import CvtoolError, InputError, ModelError, UsageError, did_you_mean
from cvtool.ops import handcrafted
from cvtool.results import Labels

NAMES = ("pixels", "handcrafted")  # features that are no network's
BATCH = 64  # pictures at a time while their features are gathered


class Features(nn.Module):
    """B 3 H W -> B D, by name. `told` is what rebuilds it from a checkpoint: a network's form, whose weights the checkpoint holds itself."""

    def __init__(self, name: str, *, network: str = "", image_size: int = 32, components: int = 0, probe_stage: str = "") -> None:
        super().__init__()
        if components < 0 or image_size < 1:
            raise UsageError(f"components={components}, image_size={image_size}: components is 0 (all) or more, image_size 1 or more")
        self.name, self.told, self.net = name, network, None
        self.prepare = Prepare(resize="stretch", size=image_size, mean=(0.0,) * 3, std=(1.0,) * 3)
        if name not in NAMES:
            self.net = _network(name, network)
            self.prepare = self.net.prepare
            self.told = network or json.dumps(self.net.form, separators=(",", ":"))
            self.net.requires_grad_(False)
        self.stage = _stage(self.net, probe_stage)
        self.components = components
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("axes", torch.zeros(0, 0))  # components D

    def raw(self, batch: Batch) -> Tensor:
        """B D, before the components."""
        if self.net is not None:
            return self.net.embed(batch).float() if self.stage is None else self._seen(batch)
        return batch.images.float().flatten(1) if self.name == "pixels" else handcrafted.handcrafted(batch.images.float())

    def _seen(self, batch: Batch) -> Tensor:
        """B D: the stage's output, averaged over places (B D H W) or tokens (B N D)."""
        assert self.net is not None
        assert self.stage is not None
        found: list[Tensor] = []
        handle = self.net.get_submodule(self.stage).register_forward_hook(lambda module, given, out: found.append(out))
        try:
            self.net.embed(batch)
        finally:
            handle.remove()
        if len(found) != 1 or not isinstance(found[0], Tensor):
            raise UsageError(f"probe_stage={self.stage}: this part gives no single map of features", hint="take the part that holds it")
        out = found[0].float()
        return out.mean((2, 3)) if out.ndim == 4 else out.mean(1) if out.ndim == 3 else out.flatten(1)

    def forward(self, batch: Batch) -> Tensor:
        x = self.raw(batch)
        return (x - self.mean) @ self.axes.T if self.components else x

    def fit(self, x: Tensor) -> Tensor:
        """Find the principal components of N D rows, if any are asked for; the rows in them. Raises UsageError where there are fewer."""
        if not self.components:
            return x
        if self.components > min(x.shape):
            raise UsageError(f"components={self.components}: {len(x)} pictures of {x.shape[1]} features have at most {min(x.shape)}")
        self.mean = x.mean(0)
        self.axes = torch.linalg.svd(x - self.mean, full_matrices=False)[2][: self.components].contiguous()
        return (x - self.mean) @ self.axes.T


def _network(name: str, told: str) -> Any:
    """A model that embeds: with its weights, or (from a checkpoint) only its form."""
    if told:
        form = json.loads(told)
        return weights.build(registry.parse(form["reference"]), categories=numbered(form["classes"]), **form["arguments"])
    try:
        registry.parse(name)
    except CvtoolError as error:
        hint = (
            did_you_mean(name, NAMES) or f"{', '.join(NAMES)}, or a model that `cvtool embed` takes; components=20 keeps so many principal components"
        )
        raise ModelError(f"features={name}: {error.what}", hint=hint) from error
    model, info = weights.load(name)
    if not hasattr(model, "embed"):
        raise UsageError(f"features={name}: this model gives no features", hint="pixels, handcrafted, or a model that `cvtool embed` takes")
    model.form = {"reference": info.reference.partition("@")[0], "arguments": dict(info.arguments), "classes": len(info.categories)}
    return model


def _stage(net: nn.Module | None, name: str) -> str | None:
    """The full name of a network's part; None for the network as a whole. Raises UsageError for one that it does not have."""
    if not name:
        return None
    if net is None:
        raise UsageError(f"probe_stage={name} has no effect: these features come from no network", hint="features=REF names one")
    parts = [part for part, _ in net.named_modules() if part]
    if (found := next((part for part in (name, f"net.{name}") if part in parts), None)) is None:
        short = dict.fromkeys(part.removeprefix("net.") for part in parts if part.count(".") <= 1 and part != "net")
        raise UsageError(f"probe_stage={name}: the network has no such part", hint=did_you_mean(name, short) or "parts: " + ", ".join(short))
    return found


class Fitted(nn.Module, ABC):
    """learn(x, y, seed) fills the buffers named in `learned`; scores(x) gives B K from rows B D. Rows of the same picture are the same."""

    result = Labels
    needs = ("labels",)
    learned: tuple[str, ...] = ()

    def __init__(self, classes: int, features: Features) -> None:
        super().__init__()
        self.features, self.prepare = features, features.prepare
        self.categories: Categories = numbered(classes)
        for name in self.learned:
            self.register_buffer(name, torch.zeros(0))

    @property
    def rebuilt(self) -> dict[str, Any]:
        """Arguments that a checkpoint must hold beside those that were asked for."""
        return {"network": self.features.told} if self.features.told else {}

    def fit(self, samples: Iterable[Any], *, seed: int = 0) -> None:
        """samples: `Sample`s with one label each. Raises InputError where all are of one class."""
        rows, labels = [], []
        self.eval()
        for group in _groups(samples, BATCH):
            batch = self.prepare([np.ascontiguousarray(sample.pixels) for sample in group])
            with torch.no_grad():
                rows.append(self.features.raw(batch.to(self.device)))
            labels += [int(sample.target.labels[0]) for sample in group]
        y = torch.tensor(labels)
        if len(y.unique()) < 2:
            raise InputError("all pictures are of one class: there is nothing to tell apart", hint="a classifier needs two classes")
        x = self.features.fit(torch.cat(rows))
        if not torch.isfinite(x).all():
            raise InputError("a picture has features that are not finite")
        self.learn(x, y, seed)

    @abstractmethod
    def learn(self, x: Tensor, y: Tensor, seed: int) -> None:
        """x: N D float32. y: N int64."""

    @abstractmethod
    def scores(self, x: Tensor) -> Tensor:
        """B D -> B K in [0, 1], summing to 1 over the classes."""

    @torch.no_grad()
    def predict(self, batch: Batch, *, conf: float | None = None, max_det: int | None = None) -> list[Labels]:
        """The `max_det` likeliest classes (5 unless told), best first; those below `conf` are left out."""
        x = self.features(batch)
        scores = self.scores(x) if self.is_fitted else x.new_full((len(x), len(self.categories)), 1 / len(self.categories))
        best, labels = scores.sort(dim=1, descending=True, stable=True)  # equal scores: the first class
        count = min(max_det or 5, best.shape[1])
        results = [Labels(labels=label[:count], scores=score[:count]) for label, score in zip(labels, best, strict=True)]
        return results if conf is None else [result[result.scores >= conf] for result in results]

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """B D: the features that it decides by."""
        return self.features(batch)

    def resize_for(self, state: Mapping[str, Tensor]) -> None:
        """Make room for the arrays of a checkpoint, whose lengths only fitting knows."""
        for name, buffer in list(self.named_buffers()):
            if name in state and buffer.shape != state[name].shape and not name.startswith("features.net."):
                owner, _, last = name.rpartition(".")
                setattr(self.get_submodule(owner), last, torch.zeros(state[name].shape, dtype=state[name].dtype))

    @property
    def is_fitted(self) -> bool:
        """Before that, every class is as likely as any other."""
        return all(self.get_buffer(name).numel() for name in self.learned)

    @property
    def device(self) -> torch.device:
        return next(self.buffers()).device


def _groups(samples: Iterable[Any], count: int) -> Iterator[list[Any]]:
    stream = iter(samples)
    while group := list(islice(stream, count)):
        yield group
