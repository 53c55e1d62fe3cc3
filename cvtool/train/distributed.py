"""Training by several processes under `torchrun`: who they are, what they tell each other, and how they end together.

Two channels. Gradients go where the weights are (nccl between GPUs, gloo between CPUs) and add up. All else, such as losses, what a validation has
found, a signal or an error, goes by `exchange`, an object from each to all, over gloo. A process that fails alone says why and ends; the
others notice that it is gone. What all of them know at once is said by process 0 alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cvtool import calls
from cvtool.errors import CvtoolError, UsageError
from cvtool.runtime import torchrun
from cvtool.runtime.device import pick_device

T = TypeVar("T")
_FOLDER = "cvtool/run"  # the key under which a run's folder outlives a restart of the processes
_MEETINGS = count()  # those of this process, which each of them opens in the same order
_LOST = "another process of this run has ended or does not answer"


class Quiet(CvtoolError):
    """The end of a process whose error another one tells."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("told elsewhere")
        self.exit_code = exit_code  # type: ignore[misc]

    def lines(self) -> list[str]:
        return []


class World:
    """The processes of a run; `join` makes it. rank: this one's number among `size`. Alone, nothing here costs or does anything."""

    def __init__(self, place: torchrun.Place = torchrun.Place()) -> None:
        self.rank, self.size, self.local, self.restarts = place.rank, place.count, place.local, place.restarts
        self.alone = self.size == 1
        self.first = self.rank == 0
        self._control: Any = None

    # ---- beginning and end ----------------------------------------------------------------------------------------

    def device(self, asked: str) -> torch.device:
        """Each process of a machine takes a GPU of its own. Raises UsageError, ModelError."""
        if not self.alone and asked in ("auto", "cuda") and torch.cuda.is_available():
            asked = f"cuda:{self.local}"  # of which it is told where there are fewer
        return pick_device(asked)

    def open(self, device: torch.device) -> None:
        """Find the others. Raises CvtoolError where they do not come within the time limit."""
        if self.alone or self._control is not None:
            return
        import torch.distributed as dist

        if device.type == "cuda":
            torch.cuda.set_device(device)
        wait = timedelta(seconds=torchrun.limit())
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=wait, **self._meeting(wait))
            self._control = dist.new_group(backend="gloo", timeout=wait)
        except (RuntimeError, ValueError) as error:
            what = f"the {self.size} processes do not find each other: {str(error).splitlines()[0]}"
            raise CvtoolError(what, hint="CVTOOL_RANK_TIMEOUT=1800 waits longer than 600 s") from error

    def _meeting(self, wait: timedelta) -> dict[str, Any]:
        """Where the processes tell each other their addresses. torchrun's store outlives them: in a place of its own for each start, lest
        those that were started anew should read the addresses of the dead."""
        if (store := _agent_store(wait)) is None:
            return {}  # rank 0 keeps one, at MASTER_ADDR
        import torch.distributed as dist

        place = f"cvtool/{self.restarts}/{self.size}/{next(_MEETINGS)}/"
        return {"store": dist.PrefixStore(place, store), "rank": self.rank, "world_size": self.size}

    def group(self) -> Any:
        """A channel between all, for tensors where the weights are, apart from that of the gradients."""
        import torch.distributed as dist

        return dist.new_group()

    def close(self) -> None:
        """Leave; the others are not waited for."""
        if self._control is not None:
            import torch.distributed as dist

            self._control = None
            with suppress(RuntimeError):
                dist.destroy_process_group()

    def check(self, recipe: Mapping[str, Any], loader: Any, *, fitted: bool) -> None:
        """Raises UsageError for a run that several processes cannot share."""
        alone, hint = "one process alone can do it", "leave torchrun out"
        if self.alone:
            for key in ("fsdp", "sync_batch_norm"):
                if recipe[key]:
                    raise UsageError(f"{key} has no effect in one process", hint="torchrun --nproc-per-node N -m cvtool train ... starts several")
            return
        if fitted:
            raise UsageError(f"the model is fitted in one go, not by gradient: {alone}", hint=hint)
        if calls.one(recipe["optimizer"], "optimizer").name == "newton":
            raise UsageError(f"the optimizer newton needs the whole batch's curvature: {alone}", hint=hint)
        least = (1 if loader.single else 2) * self.size
        if recipe["batch_size"] < least:
            why = " normalised over two pictures at least" if not loader.single else ""
            raise UsageError(
                f"batch_size {recipe['batch_size']} is too small for {self.size} processes{why}",
                hint=f"it counts the pictures of all: {least} or more",
            )

    # ---- objects ---------------------------------------------------------------------------------------------------

    def exchange(self, value: T) -> list[T]:
        """What each process gives, by rank; every process must call it at the same point. Plain data, for it is pickled.

        Raises CvtoolError (on rank 0, Quiet elsewhere) where a process is gone.
        """
        if self.alone:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        with self.connected():
            dist.all_gather_object(found, value, group=self._control)
        return found

    def told(self, value: T) -> T:
        """Rank 0's value."""
        return self.exchange(value if self.first else None)[0]  # type: ignore[return-value]

    @contextmanager
    def connected(self) -> Iterator[None]:
        """A collective operation, whose failure means that a process is gone."""
        try:
            yield
        except RuntimeError as error:
            if not self.first:
                raise Quiet(1) from error
            raise CvtoolError(_LOST, hint="what was saved last is kept; --resume goes on from there") from error

    # ---- errors ----------------------------------------------------------------------------------------------------

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """What is done inside, all have done or none: an error in one process is raised in all, and told by rank 0."""
        if self.alone:
            yield
            return
        error: CvtoolError | None = None
        try:
            yield
        except CvtoolError as found:
            error = found
        self.settle(error)

    def settle(self, error: CvtoolError | None) -> None:
        """Raise here what any process has come with; `None` from all of them is no error."""
        if self.alone:
            if error is not None:
                raise error
            return
        told = self.exchange(None if error is None else (error.exit_code, error.what, error.where, error.hint))
        bad = [(rank, one) for rank, one in enumerate(told) if one is not None]
        if not bad:
            return
        rank, (code, what, where, hint) = bad[0]
        if self.first and error is not None:
            raise error
        found = CvtoolError(f"process {rank} of {self.size}: {what}", where=where, hint=hint)
        found.exit_code = code  # type: ignore[misc]
        raise self.spoken(found)

    def spoken(self, error: CvtoolError) -> CvtoolError:
        """An error that all processes have come to: itself on rank 0; elsewhere one without words, once rank 0 has ended, lest torchrun,
        which ends all when one ends, should cut it short."""
        if self.alone or self.first:
            return error
        import torch.distributed as dist

        with suppress(RuntimeError):
            dist.all_gather_object([None] * self.size, None, group=self._control)
        return Quiet(error.exit_code)

    # ---- tensors ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def align(self, tensors: Sequence[Tensor]) -> None:
        """Rank 0's values for all, in place."""
        if self.alone or not tensors:
            return
        import torch.distributed as dist

        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        with self.connected():
            for some in kinds.values():
                flat = torch.cat([tensor.reshape(-1) for tensor in some])
                dist.broadcast(flat, src=0)
                if not self.first:
                    for tensor, part in zip(some, flat.split([tensor.numel() for tensor in some]), strict=True):
                        tensor.copy_(part.view(tensor.shape))

    def align_model(self, model: nn.Module) -> None:
        """Rank 0's weights and buffers for all."""
        self.align([*model.parameters(), *model.buffers()])

    # ---- a run that is started anew by torchrun ---------------------------------------------------------------------

    def remember(self, folder: str) -> None:
        """Keep a run's folder where processes that torchrun starts in place of these will find it."""
        if not self.alone and self.first and (store := _agent_store()) is not None:
            store.set(_FOLDER, folder)

    def remembered(self) -> str | None:
        """The folder of the run that these processes are to go on with, all of them having been started anew."""
        if self.alone or not self.restarts:
            return None
        store = _agent_store() if self.first else None
        return self.told(store.get(_FOLDER).decode() if store is not None and store.check([_FOLDER]) else None)


def join(device: str = "auto") -> World:
    """The processes that torchrun has started with this one, which is alone without it. Raises UsageError, ModelError, CvtoolError."""
    world = World(torchrun.place())
    if world.alone:
        return world
    found, error = torch.device("cpu"), None
    try:
        found = world.device(device)
    except CvtoolError as bad:
        error = bad
    world.open(found)
    world.settle(error)
    return world


def _agent_store(wait: timedelta = timedelta(seconds=10)) -> Any:
    """torchrun's own key-value store, which lives as long as torchrun does; None where it keeps none for its processes."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    import torch.distributed as dist

    try:
        port = int(os.environ["MASTER_PORT"])
        return dist.TCPStore(os.environ["MASTER_ADDR"], port, is_master=False, timeout=wait)
    except (RuntimeError, KeyError, ValueError):
        return None
