"""What mixup and cutmix share: pictures of one batch that can stand on one another, partners, and weighted labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from cvtool.batch import Batch
from cvtool.errors import InputError
from cvtool.results import Labels


def extent(batch: Batch, name: str) -> tuple[int, int]:
    """(rows, columns) that the pictures take of the batch's images, padding aside. Raises InputError where they differ: pixels of one would stand on
    the padding of another, and its label would be weighted for what is not there."""
    inside = ~batch.padding  # B H W
    if not torch.equal(inside, inside[:1].expand_as(inside)):
        sizes = {(int(i[:, 0].sum()), int(i[0].sum())) for i in inside}
        told = " and ".join(f"{cols} x {rows}" for rows, cols in sorted(sizes)[:2])
        hint = "--augment resized-crop makes them alike, where the model takes one size; else leave it out"
        raise InputError(f"{name} mixes pictures of one size, and a batch has {told}", hint=hint)
    return int(inside[0, :, 0].sum()), int(inside[0, 0].sum())


def mixed(one: Labels, other: Labels, weight: float) -> Labels:
    """The labels of `weight` x one + (1 - weight) x other; their weights sum to 1. A class of both stands there twice, which adds up."""
    scores = torch.cat([weight * shares(one), (1 - weight) * shares(other)])
    return replace(one, labels=torch.cat([one.labels, other.labels]), scores=scores)


def shares(labels: Labels) -> Any:
    """K: the weight of each label; one alone has all of it. Raises InputError for several without weights."""
    if labels.scores is not None:
        return labels.scores
    if len(labels.labels) != 1:
        raise InputError("a picture with several labels of no weight cannot be mixed")
    return torch.ones(1)


def partners(count: int, rng: np.random.Generator) -> torch.Tensor:
    """B: whom each picture is mixed with, a random order of the batch."""
    return torch.from_numpy(rng.permutation(count))


@dataclass(frozen=True)
class OneOf:
    """One of several batch parts for each batch, drawn alike: two mixtures of a batch are not made at once (as timm and torchvision do)."""

    parts: tuple[Callable[[Batch, np.random.Generator], Batch], ...]

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        return self.parts[int(rng.integers(len(self.parts)))](batch, rng)
