"""Batches for the loop: the same ones in the same order for a seed, however many workers make them and wherever an epoch is resumed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from queue import Queue
from typing import Any, Literal

import numpy as np
import torch

from cvtool.batch import Batch
from cvtool.data.augment import BatchPart, Pipeline, repeated
from cvtool.data.dataset import Dataset, Sample
from cvtool.data.parcel import Parcel, packed
from cvtool.errors import InputError
from cvtool.ops.freeform import Freeform

GRACE = 60  # seconds that a worker outlives a SIGTERM
_ORDER, _AUGMENT, _MIX, _REPLACE, _HOLE = 0, 1, 2, 3, 4  # streams of random numbers that must not meet
TRIES = 50  # pictures that may stand in for one that cannot be read
NAMED = 5  # that `news` names at a time
EMPTY = Batch(torch.empty(0, 3, 0, 0), torch.empty(0, 0, 0, dtype=torch.bool), [])


@dataclass
class Loaded:
    """A batch, the names of its pictures and their places in the data set; and what could not be read while it was made, index -> why."""

    batch: Batch
    names: list[str]
    indices: list[int] = field(default_factory=list)
    bad: dict[int, InputError] = field(default_factory=dict)
    counted: int | None = None  # where several processes share a batch: how many of these pictures count, of how many in all
    whole: int | None = None

    def pin_memory(self) -> Loaded:
        """For the worker pool, where `pin` is on."""
        return replace(self, batch=self.batch.pin_memory())


class Loader:
    """Epochs of batches. Order comes from (seed, epoch), a picture's augmentation from (seed, epoch, index), nothing from global state.

    prepare: pictures and targets -> Batch (the model's own).
    augment: for each picture, before `prepare`. batch_augment: for each batch, after it, by random numbers of (seed, epoch, its entries).
    holes: what each picture gets to be filled, drawn for the size that `prepare` makes, of (seed, epoch, entry).
    repeats: copies of a picture in a batch, each augmented in its own way (`augment.repeated` says what an epoch is then).
    sampler: epoch -> the indices of its pictures in their order, some maybe several times, always as many; None for each picture once.
    workers: processes that make batches; 0 makes them here, `ahead` of them by one thread.
    single: False leaves out a last batch of one picture, which normalisation over a batch cannot use.
    unreadable: what happens to a picture that cannot be read: "raise" an InputError; "replace" it by another one, which depends on (seed, epoch,
      entry) alone, so that all other entries, their order and their random numbers stay; or "drop" it. `dataset.bad` lists them afterwards.
    part: (I, N) where N processes share each batch and this is the I-th from 0 on; `share` says which pictures it gets. With deal="batches" it
      gets every N-th batch, whole. The plan, the number of batches and the random numbers are those of one process.
    channels_last: images in that memory format. pin: batches lie in memory from which a GPU copies on its own.
    """

    def __init__(
        self,
        dataset: Dataset,
        prepare: Callable[..., Batch],
        *,
        batch_size: int,
        seed: int = 0,
        augment: Pipeline | None = None,
        batch_augment: Sequence[BatchPart] = (),
        holes: Freeform | None = None,
        repeats: int = 1,
        shuffle: bool = True,
        workers: int = 0,
        ahead: int = 0,
        single: bool = True,
        sampler: Callable[[int], np.ndarray] | None = None,
        unreadable: Literal["raise", "replace", "drop"] = "raise",
        channels_last: bool = False,
        pin: bool = False,
        part: tuple[int, int] = (0, 1),
        deal: Literal["pictures", "batches"] = "pictures",
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"a batch holds at least one picture, not {batch_size}")
        self.dataset, self.prepare, self.augment = dataset, prepare, augment
        self.batch_augment, self.holes, self.repeats = tuple(batch_augment), holes, repeats
        self.batch_size, self.seed, self.shuffle, self.workers, self.ahead, self.single = batch_size, seed, shuffle, workers, ahead, single
        self.sampler, self.unreadable, self.pin = sampler, unreadable, pin
        self.part, self.deal = part, deal
        self._format = {"memory_format": torch.channels_last} if channels_last else {}
        self._pool: Any = None
        self._plan = _Plan()
        self._told = 0
        self._length: int | None = None

    def __len__(self) -> int:
        """Batches an epoch; the loop asks at every turn."""
        if self._length is None:
            self._length = len(self.plan(0))
        return self._length

    def plan(self, epoch: int) -> list[list[int]]:
        """The entries of each batch of an epoch: indices, or `index + copy * len(dataset)` for further copies of a picture in it."""
        count = len(self.dataset)
        if self.sampler is not None:
            order = self.sampler(epoch)
        else:
            order = np.random.default_rng((self.seed, _ORDER, epoch)).permutation(count) if self.shuffle else np.arange(count)
        batches = repeated.batches(order.tolist(), self.batch_size, self.repeats, count)
        batches = batches if self.sampler is None else _numbered(batches, count)
        return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 and not self.single else batches

    def make(self, epoch: int, entries: Sequence[int]) -> Loaded:
        """One batch of the plan."""
        pixels, targets, names, indices, taken, bad = [], [], list[str](), list[int](), list[int](), dict[int, InputError]()
        for entry in entries:
            if (found := self._found(epoch, entry, bad)) is None:
                continue
            index, sample = found
            image, target = sample.pixels, sample.target
            if self.augment is not None:
                image, target = self.augment(image, target, np.random.default_rng((self.seed, _AUGMENT, epoch, entry)))
            pixels.append(image)
            targets.append(target)
            names.append(str(sample.record.get("file_name", index)))
            indices.append(index)
            taken.append(entry)
        if not pixels:
            return Loaded(EMPTY, names, indices, bad)
        batch = self.prepare(pixels, targets, **self._format)
        if self.holes is not None:
            batch.targets = [replace(target, hole=self._hole(batch, epoch, entry)) for target, entry in zip(batch.targets or [], taken, strict=True)]
        if self.batch_augment:
            rng = np.random.default_rng((self.seed, _MIX, epoch, *entries))
            for part in self.batch_augment:
                batch = part(batch, rng)
        return Loaded(batch, names, indices, bad)

    def _hole(self, batch: Batch, epoch: int, entry: int) -> torch.Tensor:
        """H W bool, as large as the batch's pictures."""
        assert self.holes is not None
        height, width = batch.images.shape[-2:]
        return torch.from_numpy(self.holes.draw(width, height, np.random.default_rng((self.seed, _HOLE, epoch, entry))))

    def made(self, epoch: int, entries: Sequence[int]) -> Loaded:
        """This process's part of a batch of the plan."""
        if self.part[1] == 1 or self.deal == "batches":
            return self.make(epoch, entries)
        mine, counted = share(entries, *self.part, least=1 if self.single else 2)
        return replace(self.make(epoch, mine), counted=counted, whole=len(entries))

    def _found(self, epoch: int, entry: int, bad: dict[int, InputError]) -> tuple[int, Sample] | None:
        """The sample of an entry, or of what stands in for it; None where it is dropped. Raises InputError."""
        index = entry % len(self.dataset)
        try:
            return index, self.dataset[index]
        except InputError:
            if self.unreadable == "raise":
                raise
            bad[index] = first = self.dataset.bad[index]
        if self.unreadable == "drop":
            return None
        for other in np.random.default_rng((self.seed, _REPLACE, epoch, entry)).integers(len(self.dataset), size=TRIES).tolist():
            try:
                return other, self.dataset[other]
            except InputError:
                bad[other] = self.dataset.bad[other]
        what = f"{first.what}; nor could {len(bad) - 1} others be read that were to stand in for it"
        raise InputError(what, where=first.where, hint="`cvtool data check --deep` lists what cannot be read")

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Loaded]:
        """The batches of an epoch from number `start` on."""
        batches = [(epoch, entries) for entries in self.plan(epoch)[start:]]
        if self.deal == "batches":
            batches = batches[self.part[0] :: self.part[1]]
        if self.workers:
            return self._noted(self._by_processes(batches))
        made = (self.made(*item) for item in batches)
        return self._noted(_ahead((item.pin_memory() for item in made) if self.pin else made, self.ahead) if self.ahead else made)

    @property
    def skipped(self) -> int:
        """How many pictures could not be read so far."""
        return len(self.dataset.bad)

    def news(self) -> list[str]:
        """What could not be read since the last time, in words, the first few by name."""
        found = list(self.dataset.bad.items())[self._told :]
        self._told += len(found)
        how = "another picture stands in for it" if self.unreadable == "replace" else "it is left out"
        lines = [
            f"warning: {error.where or self.dataset.records[index].name} cannot be used, and {how}: {error.what}" for index, error in found[:NAMED]
        ]
        return lines + ([f"warning: so it is with {len(found) - NAMED} more pictures (--strict stops at the first)"] if len(found) > NAMED else [])

    def _noted(self, made: Iterator[Loaded | InputError]) -> Iterator[Loaded]:
        """The batches with pictures in them; what could not be read goes into the data set's list, whichever process found it."""
        try:
            for item in made:
                if isinstance(item, InputError):
                    raise item
                self.dataset.bad.update(item.bad)
                if item.names:
                    yield item
        finally:
            if isinstance(made, Generator):
                made.close()

    def _by_processes(self, batches: list[tuple[int, list[int]]]) -> Iterator[Loaded | InputError]:
        self._plan.batches = batches
        if self._pool is None:
            # its own generator, because the default one would draw the workers' seeds from the stream that the model's losses use
            self._pool = torch.utils.data.DataLoader(
                _Fetch(copy(self)),  # a copy without the pool: a cycle would keep the processes until the interpreter ends
                batch_size=None,
                sampler=self._plan,
                num_workers=self.workers,
                persistent_workers=True,
                prefetch_factor=4,
                pin_memory=self.pin,
                generator=torch.Generator(),
                worker_init_fn=_start_worker,
            )
        return (item.opened() if isinstance(item, Parcel) else item for item in self._pool)

    def close(self) -> None:
        """End the worker processes, if there are any; another epoch starts new ones."""
        if self._pool is not None and (iterator := self._pool._iterator) is not None:
            iterator._shutdown_workers()
        self._pool = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": None}


def share(entries: Sequence[int], rank: int, count: int, *, least: int = 1) -> tuple[Sequence[int], int]:
    """What of a batch process `rank` of `count` computes, and how many of it count: runs of about the same length, of at least `least` pictures.

    A process for which none are left computes on the first ones, which then count nothing: all take part in every turn.
    """
    parts = min(count, max(1, len(entries) // least))
    if rank >= parts:
        return entries[:least], 0
    mine = entries[len(entries) * rank // parts : len(entries) * (rank + 1) // parts]
    return mine, len(mine)


def _numbered(batches: list[list[int]], count: int) -> list[list[int]]:
    """Indices, some of them more than once, as entries: the n-th time that a picture comes it is `index + n * count`."""
    seen: Counter[int] = Counter()
    found = []
    for batch in batches:
        entries = []
        for index in (entry % count for entry in batch):
            entries.append(index + seen[index] * count)
            seen[index] += 1
        found.append(entries)
    return found


class _Plan:
    """The sampler of the worker pool: whatever the epoch at hand consists of."""

    batches: Sequence[tuple[int, list[int]]] = ()

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Fetch(torch.utils.data.Dataset):
    """The worker pool's data set: a batch by its plan."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __getitem__(self, item: tuple[int, list[int]]) -> Parcel | InputError:
        try:
            return packed(self.loader.made(*item))
        except InputError as error:  # as a value, for the pool would wrap what is raised in a page of its own
            return error


def _start_worker(worker: int) -> None:
    """One thread; and signals, which can reach the whole process group, leave it to the loop to end in order, for a while."""
    import signal

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):  # not on Windows
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))


def _ahead(made: Iterator[Loaded], depth: int) -> Iterator[Loaded]:
    """The same, made by a thread up to `depth` before they are asked for. An error there is raised here."""
    queue: Queue[Any] = Queue(maxsize=depth)
    left = threading.Event()
    end = object()

    def work() -> None:
        try:
            for item in made:
                queue.put(item)
                if left.is_set():
                    return
            queue.put(end)
        except BaseException as error:
            queue.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()
        while thread.is_alive():
            if not queue.empty():
                queue.get()
            thread.join(0.01)
