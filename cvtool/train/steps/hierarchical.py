"""Hierarchical triplets: a tree of the classes says which of them share a batch and how far apart they shall be (Ge 2018, arXiv:1810.06951).

`--loss hierarchical-triplet` brings it. Every `tree_every` epochs all pictures are embedded, and the tree is made anew of the distances between the
classes. A batch is l' x m x t pictures: l' classes drawn at random, each with its m - 1 nearest classes, t pictures of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cvtool.batch import Batch
from cvtool.data.groups import labels_of
from cvtool.errors import UsageError
from cvtool.losses.hierarchical_triplet import hierarchical_triplet
from cvtool.ops.class_tree import Tree, class_distances
from cvtool.train.step import Phase, Step
from cvtool.train.steps import supervised
from cvtool.train.steps._embedded import embedded
from cvtool.train.steps._watched import Watched

SETTINGS = {"images_per_class": 4, "neighbourhood": 4, "tree_levels": 16, "tree_every": 1, "tree_margin": 0.1}
_STREAM = 107  # of random numbers, apart from those of the loader


class Hierarchical:
    """`base` trains the model, whose criterion is `watched`; `weight` is that of the hierarchical term. distances: K K, of the classes."""

    def __init__(self, base: Step, watched: Watched, *, weight: float, settings: Mapping[str, Any], batch: int, seed: int) -> None:
        self.base, self.watched, self.weight = base, watched, weight
        self.per_class, self.neighbourhood = settings["images_per_class"], settings["neighbourhood"]
        self.levels, self.every, self.slack = settings["tree_levels"], settings["tree_every"], settings["tree_margin"]
        self.batch, self.seed = batch, seed
        self._own = base.phases()
        self.distances: Tensor | None = None
        self._margins = torch.empty(0)

    @property
    def model(self) -> nn.Module:
        return self.base.model

    @property
    def evaluated(self) -> nn.Module:
        return self.base.evaluated

    @property
    def tree(self) -> Tree:
        """Of the distances at hand. Raises RuntimeError before the first epoch."""
        if self.distances is None:
            raise RuntimeError("the tree is made when an epoch begins")
        return Tree.of(self.distances.numpy(), self.levels)

    def phases(self) -> list[Phase]:
        first, *rest = self._own
        return [replace(first, losses=self.losses), *rest]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The other terms of the sum, and `hierarchical_triplet`."""
        own, z, labels = self.watched.of(lambda: self._own[0].losses(batch))
        return own | {"hierarchical_triplet": self.weight * hierarchical_triplet(z, labels, margins=self._margins.to(z))}

    def begin_epoch(self, loader: Any, epoch: int, batch: int) -> None:
        labels = labels_of(loader.dataset)
        if self.distances is None or (batch == 0 and epoch % self.every == 0):
            vectors = embedded(self.model, loader)
            known = np.where(np.isfinite(vectors).all(1), labels, -1)
            self.distances = torch.from_numpy(class_distances(vectors, known, len(loader.dataset.categories)))
        self._margins = torch.from_numpy(self.tree.margins(self.slack)).float()
        loader.sampler = self._sampler(labels)

    def _sampler(self, labels: np.ndarray) -> Any:
        distances = self.distances
        assert distances is not None
        near = neighbours(distances.numpy(), self.neighbourhood)

        def order(epoch: int) -> np.ndarray:
            return batches(labels, near, per_class=self.per_class, batch=self.batch, rng=np.random.default_rng((self.seed, _STREAM, epoch)))

        return order

    def after(self, batch: Batch) -> None:
        self.base.after(batch)

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict() | {"distances": self.distances}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.base.load_state_dict(state)
        self.distances = state["distances"]


def neighbours(distances: np.ndarray, m: int) -> dict[int, list[int]]:
    """Of each class that has pictures: itself and the m - 1 nearest others, nearest first; fewer where there are no more."""
    known = np.flatnonzero(np.isfinite(np.diag(distances)))
    found = {}
    for label in known.tolist():
        others = known[known != label]
        found[label] = [label, *others[np.argsort(distances[label, others], kind="stable")][: m - 1].tolist()]
    return found


def batches(labels: np.ndarray, near: Mapping[int, list[int]], *, per_class: int, batch: int, rng: np.random.Generator) -> np.ndarray:
    """N indices, an epoch: runs of `batch` = l' x m x t. A class that two neighbourhoods share is in the batch once, and the next comes instead."""
    pictures = {label: np.flatnonzero(labels == label) for label in near}
    out: list[int] = []
    while len(out) < len(labels):
        chosen: dict[int, None] = {}
        for anchor in rng.permutation(list(near)).tolist():
            chosen |= dict.fromkeys(near[anchor])
            if len(chosen) * per_class >= batch:
                break
        block: list[int] = []
        each = per_class if len(chosen) * per_class >= batch else -(-batch // len(chosen))
        for label in chosen:
            own = pictures[label]
            block += rng.choice(own, each, replace=len(own) < each).tolist()
        out += block[:batch]
    return np.array(out[: len(labels)])


def make(model: nn.Module, recipe: Mapping[str, Any], *, offline: bool = False) -> Hierarchical:
    """Around the supervised step (its keys, and the settings above). Raises UsageError."""
    criterion: Any = getattr(model, "criterion", None)
    if criterion is None or getattr(model, "criterion_kind", "") != "embeddings" or not (weight := criterion.weight("hierarchical-triplet")):
        raise UsageError("the step hierarchical goes with a loss that has a tree", hint="--loss hierarchical-triplet, on siamese")
    if not getattr(model, "normalize", False):
        raise UsageError("hierarchical-triplet is for embeddings of length 1", hint="add --set normalize=true")
    for key in ("images_per_class", "neighbourhood", "tree_levels"):
        if recipe[key] < 2:
            raise UsageError(f"{key} is at least 2, not {recipe[key]}")
    if recipe["batch_size"] % (recipe["images_per_class"] * recipe["neighbourhood"]):
        what = f"a batch of {recipe['batch_size']} is not l x {recipe['neighbourhood']} classes x {recipe['images_per_class']} pictures"
        raise UsageError(what, hint="neighbourhood times images_per_class divides the batch size")
    if recipe["tree_every"] < 1 or recipe["tree_margin"] < 0:
        raise UsageError("tree_every is at least 1, and tree_margin at least 0")
    if recipe["balance"] != "none":
        raise UsageError("balance and the tree both say which pictures come", hint="leave balance out")
    watched = Watched(criterion)
    model.criterion = watched  # type: ignore[assignment]
    return Hierarchical(supervised.make(model, recipe), watched, weight=weight, settings=recipe, batch=recipe["batch_size"], seed=recipe["seed"])
