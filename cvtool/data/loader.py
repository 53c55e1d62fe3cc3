"""Batches for the loop: the same ones in the same order for a seed, however many workers make them and wherever an epoch is resumed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from queue import Queue
from typing import Any

import numpy as np
import torch

from cvtool.batch import Batch
from cvtool.data.augment import Pipeline
from cvtool.data.dataset import Dataset

GRACE = 60  # seconds that a worker outlives a SIGTERM
_ORDER, _AUGMENT = 0, 1  # streams of random numbers that must not meet


@dataclass
class Loaded:
    """A batch and the names of its pictures."""

    batch: Batch
    names: list[str]


class Loader:
    """Epochs of batches. Order comes from (seed, epoch), a picture's augmentation from (seed, epoch, index), nothing from global state.

    prepare: pictures and targets -> Batch (the model's own).
    workers: processes that make batches; 0 makes them here, `ahead` of them by one thread.
    single: False leaves out a last batch of one picture, which normalisation over a batch cannot use.
    """

    def __init__(
        self,
        dataset: Dataset,
        prepare: Callable[..., Batch],
        *,
        batch_size: int,
        seed: int = 0,
        augment: Pipeline | None = None,
        shuffle: bool = True,
        workers: int = 0,
        ahead: int = 0,
        single: bool = True,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"a batch holds at least one picture, not {batch_size}")
        self.dataset, self.prepare, self.augment = dataset, prepare, augment
        self.batch_size, self.seed, self.shuffle, self.workers, self.ahead, self.single = batch_size, seed, shuffle, workers, ahead, single
        self._pool: Any = None
        self._plan = _Plan()

    def __len__(self) -> int:
        return len(self.plan(0))

    def plan(self, epoch: int) -> list[list[int]]:
        """The indices of each batch of an epoch."""
        count = len(self.dataset)
        order = np.random.default_rng((self.seed, _ORDER, epoch)).permutation(count) if self.shuffle else np.arange(count)
        batches = [order[i : i + self.batch_size].tolist() for i in range(0, count, self.batch_size)]
        return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 and not self.single else batches

    def make(self, epoch: int, indices: Sequence[int]) -> Loaded:
        """One batch."""
        pixels, targets, names = [], [], []
        for index in indices:
            sample = self.dataset[index]
            image, target = sample.pixels, sample.target
            if self.augment is not None:
                image, target = self.augment(image, target, np.random.default_rng((self.seed, _AUGMENT, epoch, index)))
            pixels.append(image if image.flags.writeable else image.copy())  # torch takes no memory that it may not write to
            targets.append(target)
            names.append(str(sample.record.get("file_name", index)))
        return Loaded(self.prepare(pixels, targets), names)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Loaded]:
        """The batches of an epoch from number `start` on."""
        batches = [(epoch, indices) for indices in self.plan(epoch)[start:]]
        if self.workers:
            return self._by_processes(batches)
        made = (self.make(*item) for item in batches)
        return _ahead(made, self.ahead) if self.ahead else made

    def _by_processes(self, batches: list[tuple[int, list[int]]]) -> Iterator[Loaded]:
        self._plan.batches = batches
        if self._pool is None:
            self.dataset.fill()
            # its own generator, because the default one would draw the workers' seeds from the stream that the model's losses use
            self._pool = torch.utils.data.DataLoader(
                _Fetch(copy(self)),  # a copy without the pool: a cycle would keep the processes until the interpreter ends
                batch_size=None,
                sampler=self._plan,
                num_workers=self.workers,
                persistent_workers=True,
                prefetch_factor=4,
                generator=torch.Generator(),
                worker_init_fn=_start_worker,
            )
        return iter(self._pool)

    def close(self) -> None:
        """End the worker processes, if there are any; another epoch starts new ones."""
        if self._pool is not None and (iterator := self._pool._iterator) is not None:
            iterator._shutdown_workers()
        self._pool = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": None}


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

    def __getitem__(self, item: tuple[int, list[int]]) -> Loaded:
        return self.loader.make(*item)


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
