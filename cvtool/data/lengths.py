"""Texts of about the same length together, so that lines of one height do not carry much padding: the order of an epoch of pictures of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvtool.data.dataset import Dataset

WINDOW = 32  # batches within which texts are sorted: enough to sort by, and few enough that batches differ from epoch to epoch
_STREAM = 103  # of random numbers, apart from those of the loader and of `balance`


@dataclass
class ByLength:
    """epoch -> the indices of its pictures: shuffled, then sorted within every `WINDOW` batches, whose order is drawn too.

    lengths: N, of each text. Draws depend on (seed, epoch) alone.
    """

    lengths: np.ndarray
    batch_size: int
    seed: int

    def __call__(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, _STREAM, epoch))
        order = rng.permutation(len(self.lengths))
        whole = len(order) // self.batch_size * self.batch_size
        span, parts = WINDOW * self.batch_size, []
        for start in range(0, whole, span):
            part = order[start : min(start + span, whole)]
            batches = part[np.argsort(self.lengths[part], kind="stable")].reshape(-1, self.batch_size)
            parts.append(batches[rng.permutation(len(batches))].ravel())
        return np.concatenate([*parts, order[whole:]])  # the last batch, the one that is smaller, is none of the sorted ones


def sampler(dataset: Dataset, prepare: Any, recipe: Mapping[str, Any]) -> Callable[[int], np.ndarray] | None:
    """For texts whose pictures keep their proportions; None for all else."""
    if "text" not in dataset.needs or getattr(prepare, "resize", None) != "height" or recipe["overfit"]:
        return None
    lengths = np.array([len(str(record.get("text") or "")) for record in dataset.records])
    return ByLength(lengths, int(recipe["batch_size"]), int(recipe["seed"]))
