"""Decoded pictures in memory, shared with worker processes: each is decoded once, by whoever comes to it first."""

from __future__ import annotations

import mmap
import multiprocessing
import threading
from typing import Any

import numpy as np

_ABSENT, _COMING = 0, -1  # in the table, where else the place of the first byte stands, counted from 1


class _Alone:
    """A lock among the threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def _lock() -> Any:
    try:
        return multiprocessing.Lock()
    except OSError:  # no semaphores here (a sandbox without /dev/shm): then every process keeps pictures for itself
        return _Alone()


class Pictures:
    """`count` pictures by index, as many as fit into `size` bytes, first come first kept.

    The memory is one anonymous mapping, which forked processes see as one and which costs nothing until it is written to. A process that gets a
    pickled copy (where there is no fork) keeps nothing.
    """

    def __init__(self, count: int, size: int) -> None:
        self.size = size if count else 0
        self._views: dict[int, np.ndarray] = {}  # those that this process has looked up
        if self.size:
            self._lock: Any = _lock()
            self._arena = self._mapped(self.size)
            # a row a picture: place, height, width; and the last one: bytes taken, pictures kept
            self._table = np.frombuffer(self._mapped((count + 1) * 24), np.int64).reshape(count + 1, 3)

    def _mapped(self, size: int) -> mmap.mmap:
        """Anonymous memory, shared with forked processes where there is a lock that they share."""
        if isinstance(self._lock, _Alone):
            return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return mmap.mmap(-1, size)

    def get(self, index: int) -> np.ndarray | None:
        """H W 3 uint8 that cannot be written to; None if it is not kept."""
        if not self.size or (view := self._views.get(index)) is not None:
            return view if self.size else None
        with self._lock:  # what another process has written is seen behind its lock
            place, height, width = self._table[index].tolist()
        return self._view(index, place, height, width) if place > 0 else None

    def put(self, index: int, pixels: np.ndarray) -> np.ndarray:
        """Keep a picture if there is room; returns it, kept or not."""
        if not self.size:
            return pixels
        with self._lock:
            taken, kept, _ = self._table[-1].tolist()
            if self._table[index, 0] != _ABSENT or taken + pixels.nbytes > self.size:
                return pixels
            self._table[index] = _COMING, *pixels.shape[:2]
            self._table[-1] = taken + pixels.nbytes, kept + 1, 0
        np.frombuffer(self._arena, np.uint8, pixels.nbytes, taken)[:] = pixels.reshape(-1)
        with self._lock:
            self._table[index, 0] = taken + 1
        return self._view(index, taken + 1, *pixels.shape[:2])

    def __len__(self) -> int:
        """How many are kept, by all processes together."""
        return int(self._table[-1, 1]) if self.size else 0

    def _view(self, index: int, place: int, height: int, width: int) -> np.ndarray:
        view = np.frombuffer(self._arena, np.uint8, height * width * 3, place - 1).reshape(height, width, 3)
        view.flags.writeable = False  # what is shared must not be painted on
        self._views[index] = view
        return view

    def __getstate__(self) -> dict[str, Any]:
        return {"size": 0, "_views": {}}
