"""The registry of loaded models: loaded once, shared, locked while in use, dropped when memory is short.

    with pool.lease("faster-rcnn", device="cuda", precision="bf16") as loaded:
        with loaded.autocast():
            results = loaded.model.predict(batch)

A lease is exclusive: one thread at a time computes with a model; leases of different models run side by side. Models stay resident within
a budget of bytes per device, and those used longest ago leave first; a leased model never leaves. Weights stay float32: `precision` is what the
forward pass computes in, and part of a model's identity here, so that what a model keeps between calls never mixes.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cvtool import registry, weights
from cvtool.errors import UsageError
from cvtool.registry import Reference
from cvtool.runtime.device import autocast, check_precision, memory_total, pick_device


@dataclass(frozen=True)
class Loaded:
    """A model that is ready: weights in, eval mode, on its device."""

    model: Any
    info: weights.Info
    reference: Reference
    device: torch.device
    precision: str

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which the forward pass computes."""
        return autocast(self.device, self.precision)


Key = tuple[str, str, str]  # reference (a file: its path and time of change), device, precision
Loader = Callable[[Reference, torch.device, bool], tuple[Any, weights.Info]]


@dataclass
class _Slot:
    """One model's place. `users` counts those who hold or wait for `lock`; it, `size` and `loaded` change under the pool's lock only."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    size: int = 0
    loaded: Loaded | None = None


def _load(reference: Reference, device: torch.device, offline: bool) -> tuple[Any, weights.Info]:
    return weights.load(reference, device=device, offline=offline)


class Pool:
    """budget_bytes: of loaded parameters and buffers per device; None: `$CVTOOL_POOL_BUDGET` (bytes, or 6G, 800M), else 80 % of a GPU's
    memory or half of main memory. A single model larger than the budget is still loaded, alone."""

    def __init__(self, budget_bytes: int | None = None, *, load: Loader = _load) -> None:
        self._budget = budget_bytes
        self._load = load
        self._slots: OrderedDict[Key, _Slot] = OrderedDict()  # used longest ago first
        self._lock = threading.Lock()  # guards _slots and the slots' fields; never held while loading or computing

    @contextmanager
    def lease(
        self, reference: Reference | str, device: str | torch.device = "auto", precision: str = "fp32", offline: bool = False
    ) -> Iterator[Loaded]:
        """The model of a reference, loaded if it is not resident, and the caller's alone until the block ends.

        A thread that leases a model which it holds already would wait for itself for ever: hand on the `Loaded` instead.
        Raises what `registry.parse`, `pick_device` and `weights.load` raise; a failed load leaves nothing behind.
        """
        reference = registry.parse(reference) if isinstance(reference, str) else reference
        place = pick_device(device)
        check_precision(place, precision)
        key = (_identity(reference), str(place), precision)
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            slot.users += 1
        try:
            with slot.lock:  # whoever comes first loads; the others wait here, and for this model only
                if slot.loaded is None:
                    self._make_room(place)
                    model, info = self._loaded(reference, place, offline)
                    with self._lock:
                        slot.loaded, slot.size = Loaded(model, info, reference, place, precision), size_of(model)
                    self._make_room(place)
                yield slot.loaded
        finally:
            with self._lock:
                slot.users -= 1
                if slot.loaded is None and not slot.users:
                    self._slots.pop(key, None)
                elif key in self._slots:
                    self._slots.move_to_end(key)
            self._make_room(place)

    def _loaded(self, reference: Reference, device: torch.device, offline: bool) -> tuple[Any, weights.Info]:
        try:
            return self._load(reference, device, offline)
        except torch.OutOfMemoryError:  # somebody else may use the device too: give up all that can be given, then once more
            self.clear()
            return self._load(reference, device, offline)

    def budget(self, device: torch.device) -> int:
        """Bytes that may stay resident on the device."""
        if self._budget is not None:
            return self._budget
        if text := os.environ.get("CVTOOL_POOL_BUDGET"):
            return parse_bytes(text)
        return int(memory_total(device) * (0.8 if device.type == "cuda" else 0.5))

    def resident(self) -> list[Loaded]:
        """What is loaded, used longest ago first."""
        with self._lock:
            return [slot.loaded for slot in self._slots.values() if slot.loaded is not None]

    def clear(self) -> None:
        """Drop every model that is not leased."""
        with self._lock:
            self._drop([key for key, slot in self._slots.items() if not slot.users])

    def _make_room(self, device: torch.device) -> None:
        """Drop what was used longest ago and is not in use, until the device's budget holds."""
        with self._lock:
            here = {key: slot for key, slot in self._slots.items() if key[1] == str(device)}
            excess = sum(slot.size for slot in here.values()) - self.budget(device)
            leaving = []
            for key, slot in here.items():
                if excess <= 0:
                    break
                if not slot.users and slot.loaded is not None:
                    leaving.append(key)
                    excess -= slot.size
            self._drop(leaving)

    def _drop(self, keys: list[Key]) -> None:
        for key in keys:
            del self._slots[key]
        if any(key[1].startswith("cuda") for key in keys):
            torch.cuda.empty_cache()


def _identity(reference: Reference) -> str:
    """The canonical name; for files also what tells that they changed, so that a run's newer checkpoint is loaded anew."""
    path = reference.path or reference.weights_path
    if path is None:
        return str(reference)
    file = weights.checkpoint_of(Path(path)).resolve()
    status = file.stat()
    return f"{reference.name if reference.path is None else ''}.{reference.variant}@{file}#{status.st_size}.{status.st_mtime_ns}"


def size_of(model: Any) -> int:
    """Bytes of a model's parameters and buffers; of any object with `state_dict`, of its tensors or arrays."""
    if isinstance(model, torch.nn.Module):
        tensors: list[Any] = [*model.parameters(), *model.buffers()]
    else:
        tensors = list(model.state_dict().values()) if hasattr(model, "state_dict") else []
    return sum({id(t): int(getattr(t, "nbytes", 0)) for t in tensors}.values())


def parse_bytes(text: str) -> int:
    """ "800M", "6G", "1.5GB", "1000000" -> bytes (powers of 1024). Raises UsageError."""
    number = text.strip().upper().removesuffix("B").removesuffix("I")
    power = "KMGT".find(number[-1:]) + 1 if number[-1:] else 0
    try:
        value = float(number[:-1] if power else number)
        if not 0 <= value < float("inf"):
            raise ValueError(text)
    except ValueError as error:
        raise UsageError(f"CVTOOL_POOL_BUDGET is no size: '{text}'", hint="bytes, or for example 800M or 6G") from error
    return int(value * 1024**power)


pool = Pool()
