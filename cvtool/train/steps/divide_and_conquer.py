"""Divide and conquer: pictures in clusters, a learner for each cluster, and all of them together in the end (Sanakoyeu 2019, arXiv:1906.05990).

Every `recluster` epochs k-means groups the pictures by the whole embedding, a cluster for each learner; clusters keep their learner where they hold
the same pictures as before. A batch is of one cluster and its learner alone learns from it, besides the backbone; in the last `joint_epochs` epochs
batches are of all pictures and all learners learn from them as one embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cvtool.batch import Batch
from cvtool.data import groups
from cvtool.errors import UsageError
from cvtool.ops.kmeans import kmeans
from cvtool.train.step import Phase, Step
from cvtool.train.steps import metric_learning, supervised
from cvtool.train.steps._embedded import embedded

SETTINGS = {"images_per_class": 4, "recluster": 2, "joint_epochs": 2}


class DivideAndConquer:
    """clusters: N, of each picture the number of its cluster, which is its learner's; -1 where it cannot be read."""

    def __init__(self, base: Step, *, learners: int, epochs: int, settings: Mapping[str, Any], batch: int, seed: int) -> None:
        self.base, self.learners = base, learners
        self.separate = max(0, epochs - settings["joint_epochs"])
        self.recluster, self.per_class = settings["recluster"], settings["images_per_class"]
        self.batch, self.seed = batch, seed
        self._own = base.phases()
        self.clusters: Tensor | None = None
        self._turns: list[int | None] = []  # whose turn each batch of the epoch is
        self._at = 0

    @property
    def model(self) -> nn.Module:
        return self.base.model

    @property
    def evaluated(self) -> nn.Module:
        return self.base.evaluated

    def phases(self) -> list[Phase]:
        first, *rest = self._own
        return [replace(first, losses=self.losses), *rest]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The model's, of the learner whose turn it is."""
        self.model.active = self._turns[self._at] if self._at < len(self._turns) else None  # type: ignore[assignment]
        self._at += 1
        try:
            return self._own[0].losses(batch)
        finally:
            self.model.active = None  # type: ignore[assignment]

    def begin_epoch(self, loader: Any, epoch: int, batch: int) -> None:
        drawn = groups.groups(loader.dataset, self.per_class, self.batch, self.seed)
        if epoch >= self.separate:
            self._turns, loader.sampler = [], drawn
        else:
            if self.clusters is None or (batch == 0 and epoch % self.recluster == 0):
                self.clusters = torch.from_numpy(self._clustered(embedded(self.model, loader)))
            order, self._turns = divided(drawn, self.clusters.numpy(), epoch)
            loader.sampler = lambda number: order
        self._at = batch

    def _clustered(self, vectors: np.ndarray) -> np.ndarray:
        known = np.isfinite(vectors).all(1)
        found = np.full(len(vectors), -1)
        found[known] = kmeans(vectors[known], self.learners, seed=self.seed).labels
        return found if self.clusters is None else kept(found, self.clusters.numpy(), self.learners)

    def after(self, batch: Batch) -> None:
        self.base.after(batch)

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict() | {"clusters": self.clusters}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.base.load_state_dict(state)
        self.clusters = state["clusters"]


def kept(new: np.ndarray, old: np.ndarray, count: int) -> np.ndarray:
    """The new clusters with the numbers of the old ones that they share most pictures with, by intersection over union, one to one."""
    from scipy.optimize import linear_sum_assignment

    overlap = np.array([[((new == a) & (old == b)).sum() / max(1, ((new == a) | (old == b)).sum()) for b in range(count)] for a in range(count)])
    names = np.append(linear_sum_assignment(-overlap)[1], -1)  # the last stands for -1
    return names[new]


def divided(drawn: groups.Groups, clusters: np.ndarray, epoch: int) -> tuple[np.ndarray, list[int | None]]:
    """An epoch's indices, each run of a batch from one cluster, and the cluster of each run; a cluster has as many as its share of the pictures."""
    present = [int(c) for c in np.unique(clusters[clusters >= 0]) if (drawn.labels[clusters == c] >= 0).any()]
    count = -(-len(clusters) // drawn.batch)
    shares = np.array([(clusters == c).sum() for c in present]) * count / (clusters >= 0).sum()
    whole = np.floor(shares).astype(int)
    for place in np.argsort(whole - shares, kind="stable")[: count - whole.sum()]:
        whole[place] += 1
    blocks: list[tuple[np.ndarray, int]] = []
    for cluster, number in zip(present, whole.tolist(), strict=True):
        rows = np.flatnonzero(clusters == cluster)
        blocks += [(block, cluster) for block in drawn.blocks(epoch, number, rows, stream=1 + cluster)]
    order = np.random.default_rng((drawn.seed, 109, epoch)).permutation(len(blocks))
    return np.concatenate([blocks[i][0] for i in order])[: len(clusters)], [blocks[i][1] for i in order]


def make(model: nn.Module, recipe: Mapping[str, Any], *, offline: bool = False) -> DivideAndConquer:
    """Around the supervised step (its keys, and the settings above). Raises UsageError."""
    learners: Any = getattr(model, "learners", None)
    if learners is None or not hasattr(model, "active"):
        raise UsageError("the step divide-and-conquer is for an ensemble of learners", hint="-m embedding-ensemble")
    metric_learning.check(model, recipe)
    if recipe["images_per_class"] < 2 or recipe["recluster"] < 1 or recipe["joint_epochs"] < 0:
        raise UsageError("images_per_class is at least 2, recluster at least 1, and joint_epochs at least 0")
    if recipe["accumulate"] > 1:
        raise UsageError("accumulate has no use here: a turn is of one learner", hint="leave it out")
    base = supervised.make(model, recipe)
    return DivideAndConquer(base, learners=len(learners), epochs=recipe["epochs"], settings=recipe, batch=recipe["batch_size"], seed=recipe["seed"])
