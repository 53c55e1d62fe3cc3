"""Repeated augmentation: several differently augmented copies of a picture stand in one batch (Hoffer 2019, arXiv:1901.09335; Berman 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cvtool.data.augment.checks import within


@dataclass(frozen=True)
class Repeated:
    """A batch of B holds ceil(B / `repeats`) pictures, each up to `repeats` times. It changes no picture: it is the sampler's affair (`batches`)."""

    repeats: int = 3

    def __post_init__(self) -> None:
        within("repeats", self.repeats, 2)


def batches(order: Sequence[int], batch_size: int, repeats: int, count: int) -> list[list[int]]:
    """An epoch's batches of entries `index + copy * count`, copy 0 .. repeats - 1, so that each entry has random numbers of its own.

    A batch of B holds the next ceil(B / repeats) pictures of `order`, each `repeats` times but for the last, which has what is left. An epoch has
    as many batches as without repeats and so visits about one picture in `repeats` (Berman 2019, section 4): its cost, and with it the meaning of
    `epochs`, stays. Copies of a picture are not independent, so a batch estimates the gradient with more variance than one of B pictures.
    """
    found, begin = [], 0
    for start in range(0, len(order), batch_size):
        size = min(batch_size, len(order) - start)
        distinct = -(-size // repeats)
        chosen = order[begin : begin + distinct]
        begin += distinct
        found.append([int(index) + copy * count for index in chosen for copy in range(repeats)][:size])
    return found
