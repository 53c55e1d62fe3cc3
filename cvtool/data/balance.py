"""Rare classes drawn more often, or weighing more: `balance`.

| `balance` | what it does |
| --- | --- |
| none | every picture once an epoch |
| classes | pictures of one class: as many of every class an epoch. Pictures of objects: `repeat:T` with T = the share of the commonest category |
| repeat:T | a picture comes max over its categories of max(1, sqrt(T / f)) times an epoch, f = the category's share of the pictures |
| loss | every picture once; the loss of a class counts `class_weights` times |

The draws depend on (seed, epoch) alone, and every epoch has as many pictures. Repeat factors are those of LVIS (Gupta 2019, arXiv:1908.03195,
appendix B.2, with T = 0.001); their fractions are rounded by chance, anew each epoch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cvtool import calls
from cvtool.data.dataset import Dataset
from cvtool.errors import InputError, UsageError, did_you_mean

NAMES = ("none", "classes", "repeat", "loss")
_STREAM = 101  # of random numbers, apart from those of the loader
Sampler = Callable[[int], np.ndarray]


def check(text: str) -> calls.Call:
    """Raises UsageError for a name that is none of `NAMES` and for a threshold out of range."""
    call = calls.one(text, "balance")
    if call.name not in NAMES:
        raise UsageError(f"unknown balance '{call.name}'", hint=did_you_mean(call.name, NAMES) or "balance: " + ", ".join(NAMES))
    if call.name == "repeat":
        threshold = calls.bind(call, {"threshold": 0.001}, "balance")["threshold"]
        if not 0 < threshold <= 1:
            raise UsageError(f"balance: repeat takes a share of the pictures above 0 and up to 1, such as 0.001, not {threshold}")
    elif call.args or call.kwargs:
        raise UsageError(f"balance: {call.name} takes no argument", hint="repeat:T takes one")
    return call


def sampler(text: str, dataset: Dataset, seed: int) -> Sampler | None:
    """What a loader draws by; None for "none" and "loss". Raises UsageError where it would change nothing."""
    call = check(text)
    if call.name in ("none", "loss"):
        return None
    if "labels" in dataset.needs:
        if call.name == "repeat":
            raise UsageError("balance: repeat is for pictures of objects", hint="balance=classes gives every class as many pictures")
        labels = np.array([label_of(dataset, index) for index in range(len(dataset))])
        counts = np.unique(labels[labels >= 0], return_counts=True)[1]
        if len(set(counts.tolist())) < 2:
            raise UsageError(f"balance: {text} has no effect: every class has {counts.max(initial=0):,} pictures", hint="leave it out")
        return ByClass(labels, seed)
    shares = frequencies(dataset)
    if not shares:
        raise UsageError(f"balance: {text} counts objects, and the data have label maps", hint="balance=loss weighs the classes of pixels")
    threshold = max(shares.values()) if call.name == "classes" else calls.bind(call, {"threshold": 0.001}, "balance")["threshold"]
    factors = repeat_factors(dataset, threshold)
    if factors.max() == 1:
        rarest = min(shares.values())
        hint = f"the rarest category is in {100 * rarest:.3g} % of the pictures: repeat:T with T above {rarest:.3g}, or balance=none"
        raise UsageError(f"balance: {text} has no effect: no picture would be repeated", hint=hint)
    return ByRepeats(factors, seed)


@dataclass(frozen=True)
class ByClass:
    """Every class the same number of pictures an epoch (one more for some, in turn), which together are as many as the data set has.

    A class goes through all its pictures, in a random order that is drawn anew each time, before one comes again; where an epoch ends it goes on
    in the next.
    """

    labels: np.ndarray  # N: the class of each picture, -1 where it cannot be read
    seed: int

    def __call__(self, epoch: int) -> np.ndarray:
        """N indices, in a random order."""
        present = np.unique(self.labels[self.labels >= 0])
        total, found = len(self.labels), []
        for place, label in enumerate(present.tolist()):
            own = np.flatnonzero(self.labels == label)
            # of the first e epochs' e N draws this class has had floor(e N / K), with an offset so that the classes take turns
            begin, end = ((e * total + place) // len(present) for e in (epoch, epoch + 1))
            rounds = range(begin // len(own), -(-end // len(own)))
            orders = [np.random.default_rng((self.seed, _STREAM, label, number)).permutation(own) for number in rounds]
            found.append(np.concatenate(orders)[begin - rounds.start * len(own) :][: end - begin] if rounds else own[:0])
        return np.random.default_rng((self.seed, _STREAM, epoch)).permutation(np.concatenate(found))


@dataclass(frozen=True)
class ByRepeats:
    """Picture i floor(r_i) or ceil(r_i) times, r_i on average over epochs; every epoch has round(sum of r) pictures."""

    factors: np.ndarray  # N float, >= 1
    seed: int

    def __call__(self, epoch: int) -> np.ndarray:
        """Indices, in a random order."""
        rng = np.random.default_rng((self.seed, _STREAM, epoch))
        count = round(float(self.factors.sum()))
        order = rng.permutation(len(self.factors))
        # systematic sampling: one random offset, then every unit of the cumulated factors takes the picture that it falls on
        ends = np.cumsum(self.factors[order])
        taken = np.minimum(np.floor(ends * (count / ends[-1]) + rng.random() + 1e-9), count)
        return rng.permutation(np.repeat(order, np.diff(taken, prepend=0.0).astype(int)))


def repeat_factors(dataset: Dataset, threshold: float) -> np.ndarray:
    """N float: of each picture max over its categories of max(1, sqrt(threshold / share)); 1 for a picture without objects."""
    shares = frequencies(dataset)
    found = np.ones(len(dataset))
    for index, record in enumerate(dataset.records):
        kinds = {dataset.label(a, record) for a in record.get("annotations") or () if not a.get("iscrowd")}
        found[index] = max((math.sqrt(threshold / shares[kind]) for kind in kinds), default=1.0)
    return np.maximum(found, 1.0)


def frequencies(dataset: Dataset) -> dict[int, float]:
    """Label -> the share of the pictures with an object of it."""
    counts: Counter[int] = Counter()
    for record in dataset.records:
        counts.update({dataset.label(a, record) for a in record.get("annotations") or () if not a.get("iscrowd")})
    return {label: count / len(dataset) for label, count in sorted(counts.items())}


def class_weights(dataset: Dataset) -> list[float]:
    """How much the loss of each class counts; 0 for a class that never occurs.

    Classes of pictures: N / (K n), so that all classes weigh the same and the mean over the pictures is 1 (scikit-learn's "balanced"). Classes of
    pixels: median frequency balancing (Eigen 2015, arXiv:1411.4734, section 6.3.2), the median of the classes' frequencies over the class's own,
    which is its pixels over all labelled pixels of the pictures where it occurs. Raises UsageError for data of objects, InputError for a label map
    that cannot be read.
    """
    size = len(dataset.categories)
    if "labels" in dataset.needs:
        labels = np.array([label_of(dataset, index) for index in range(len(dataset))])
        counts = np.bincount(labels[labels >= 0], minlength=size)
        return [float(counts.sum() / ((counts > 0).sum() * n)) if n else 0.0 for n in counts.tolist()]
    if "semantic" not in dataset.needs:
        raise UsageError("balance: loss is for classes of pictures or pixels", hint="balance=classes or repeat:T draws rare objects more often")
    pixels, around = np.zeros(size), np.zeros(size)
    for index in range(len(dataset)):
        found = np.asarray(dataset[index].target.labels).ravel()  # type: ignore[attr-defined]
        counts = np.bincount(found[found < size], minlength=size)
        pixels += counts
        around += np.where(counts > 0, counts.sum(), 0)
    share = np.divide(pixels, around, out=np.zeros(size), where=around > 0)
    middle = float(np.median(share[share > 0])) if (share > 0).any() else 0.0
    return [middle / value if value else 0.0 for value in share.tolist()]


def label_of(dataset: Dataset, index: int) -> int:
    """The class of a picture, -1 where it has none. Raises InputError for one of an unknown class."""
    record = dataset.records[index]
    try:
        return dataset.label(record["labels"][0], record)
    except (KeyError, IndexError):
        return -1
    except InputError as error:
        raise InputError(error.what, where=error.where or record.name, hint=error.hint) from error
