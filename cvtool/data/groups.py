"""Batches of m classes by k pictures each, so that every batch has something alike and something not (Hermans 2017, arXiv:1703.07737, section 2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cvtool.data.balance import label_of
from cvtool.data.dataset import Dataset
from cvtool.errors import UsageError

_STREAM = 103  # of random numbers, apart from those of the loader


def labels_of(dataset: Dataset) -> np.ndarray:
    """N int64: the class of each picture, -1 where it has none."""
    return np.array([label_of(dataset, index) for index in range(len(dataset))])


@dataclass(frozen=True)
class Groups:
    """Called with an epoch: N indices of which each run of `batch` is of `batch / per_class` classes, `per_class` pictures of each.

    labels: N, the class of each picture; one below 0 is never drawn. A class is drawn again when all have been, a picture when all of its class have
    been; a class of fewer pictures gives some of them twice. Where there are fewer classes than a batch has room for, each has more pictures in it.
    """

    labels: np.ndarray
    per_class: int
    batch: int
    seed: int

    def __call__(self, epoch: int) -> np.ndarray:
        found = self.blocks(epoch, -(-len(self.labels) // self.batch))
        return np.concatenate(found)[: len(self.labels)]

    def blocks(self, epoch: int, count: int, among: np.ndarray | None = None, stream: int = 0) -> list[np.ndarray]:
        """`count` batches. among: the indices to draw from, None for all. stream: tells apart several draws of an epoch."""
        rng = np.random.default_rng((self.seed, _STREAM, epoch, stream))
        rows = np.arange(len(self.labels)) if among is None else among
        rows = rows[self.labels[rows] >= 0]
        of = {label: _deck(rows[self.labels[rows] == label], rng) for label in np.unique(self.labels[rows]).tolist()}
        wanted = min(self.batch // self.per_class, len(of))
        classes = _deck(np.array(list(of)), rng)
        found = []
        for _ in range(count):
            drawn = dict.fromkeys(next(classes) for _ in range(wanted))
            while len(drawn) < wanted:
                drawn[next(classes)] = None
            each = -(-self.batch // wanted)
            found.append(np.array([next(of[label]) for label in drawn for _ in range(each)])[: self.batch])
        return found


def groups(dataset: Dataset, per_class: int, batch: int, seed: int) -> Groups:
    """Of a data set. Raises UsageError as `check` does."""
    check(per_class, batch)
    return Groups(labels_of(dataset), per_class, batch, seed)


def check(per_class: int, batch: int) -> None:
    """Raises UsageError for numbers that do not go with each other; 0 pictures a class stands for pictures as they come."""
    if per_class < 0 or (per_class and (batch % per_class or batch // per_class < 2)):
        what = f"a batch of {batch} pictures is not at least two classes of {per_class} pictures each"
        raise UsageError(what, hint="images_per_class divides the batch size and is at most half of it; 0 takes pictures as they come")


def _deck(items: np.ndarray, rng: np.random.Generator) -> Iterator[int]:
    """All of them in a random order, and so again and again."""
    while True:
        yield from rng.permutation(items).tolist()
