"""The training loop. There is no other.

It walks over the phases of a step and owns time: batches into turns, precision, accumulation, clipping, schedules, the log, validation,
saving, stopping. It knows no model and no method. A run that is stopped at any moment and resumed gives the same losses to the bit: the data
depend on (seed, epoch, index), the schedules on the turn, and all else lies in one state file.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cvtool.batch import Batch
from cvtool.errors import CvtoolError, Interrupted, Terminated
from cvtool.runtime.device import autocast
from cvtool.train.log import Log, Reporter
from cvtool.train.schedule import Schedule
from cvtool.train.state import rng_state, set_rng_state
from cvtool.train.step import Phase, Step


class Item(Protocol):
    batch: Batch
    names: list[str]


class Loader(Protocol):
    def __len__(self) -> int: ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]: ...


class Keeper(Protocol):
    """Where a run is kept."""

    def save(self, state: dict[str, Any]) -> None:
        """All or nothing."""
        ...

    def epoch(self, model: nn.Module, values: dict[str, Any], *, best: bool) -> None:
        """An epoch is done; `model` is what counts in the end."""
        ...


class Stopped(Exception):
    """Raised where the run is asked to end; the loop saves and turns it into an error with an exit code."""


@dataclass
class Position:
    """Where a run stands: `batch` batches of `epoch` done, `turn` optimiser turns in all, and what the tick at hand has gathered."""

    epoch: int = 0
    batch: int = 0
    turn: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    epoch_sums: dict[str, float] = field(default_factory=dict)
    epoch_counts: dict[str, int] = field(default_factory=dict)
    best: float | None = None
    best_epoch: int | None = None


@dataclass
class Loop:
    """One run.

    epochs, turns: the run ends after whichever comes first; `turns` 0 is no limit.
    clip: the largest gradient norm of a phase, 0 for none. accumulate: batches a turn.
    validate: model -> values for the epoch's line; called every `val_every` epochs and after the last. `better` names the value that
      decides which epoch is best: (name, True if larger is better), the first that is there.
    save_every: epochs between states; the run's end and a signal save too.
    """

    step: Step
    loader: Loader
    keeper: Keeper
    log: Log
    device: torch.device
    epochs: int
    schedule: Schedule
    turns: int = 0
    precision: str = "fp32"
    clip: float = 0.0
    accumulate: int = 1
    channels_last: bool = False
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    val_every: int = 1
    save_every: int = 1
    log_every: int = 20
    better: tuple[tuple[str, bool], ...] = (("AP", True), ("val_mIoU", True), ("val_accuracy", True), ("val_loss", False))
    reporter: Reporter = field(default_factory=Reporter)
    resume_hint: str | None = None

    def __post_init__(self) -> None:
        self.at = Position()
        self.phases = self.step.phases()
        self.rates = [[group["lr"] for group in phase.optimizer.param_groups] for phase in self.phases]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16" and self.device.type == "cuda")
        self.format = torch.channels_last if self.channels_last else torch.preserve_format
        self.params = {id(p): p for phase in self.phases for p in phase.params}
        self.signal: int | None = None

    @property
    def turns_an_epoch(self) -> int:
        return -(-len(self.loader) // self.accumulate)

    @property
    def all_turns(self) -> int:
        return min(self.turns or self.epochs * self.turns_an_epoch, self.epochs * self.turns_an_epoch)

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step.state_dict(),
            "scaler": self.scaler.state_dict(),
            "position": asdict(self.at),
            "rng": rng_state(),
            "log_bytes": self.log.tell(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step.load_state_dict(state["step"])
        self.scaler.load_state_dict(state["scaler"])
        self.at = Position(**state["position"])
        set_rng_state(state["rng"])

    def run(self) -> Position:
        """Train to the end. Raises CvtoolError for a loss that is not finite, Terminated or Interrupted after a signal, having saved."""
        self.reporter.start(epochs=self.epochs, turns=self.all_turns, done=self.at.turn)
        with self.signals():
            try:
                while self.at.epoch < self.epochs and self.at.turn < self.all_turns:
                    self.one_epoch()
            except Stopped:
                self.keeper.save(self.state_dict())
                error = Terminated if self.signal == signal.SIGTERM else Interrupted
                raise error(f"stopped in epoch {self.at.epoch + 1}, turn {self.at.turn}; everything is saved", hint=self.resume_hint) from None
            finally:
                self.reporter.stop()
        return self.at

    def one_epoch(self) -> None:
        at, started, seen = self.at, time.perf_counter(), 0
        tick = Clock()
        self.step.model.train()
        items = self.loader.epoch(at.epoch, at.batch)
        rate = self.rates[0][0] * self.schedule(max(0, at.turn - 1))
        while at.turn < self.all_turns and (group := list(islice(items, self.accumulate))):
            losses, rate = self.one_turn(group)
            at.batch += len(group)
            at.turn += 1
            images = sum(len(item.batch) for item in group)
            seen += images
            tick.images += images
            self.gather(losses)
            self.reporter.turn(epoch=at.epoch, turn=at.turn, losses=losses, lr=rate, images=images)
            if at.turn % self.log_every == 0:
                self.tick(rate, tick)
            self.check_signal()
        if at.counts:
            self.tick(rate, tick)
        last = at.epoch + 1 >= self.epochs or at.turn >= self.all_turns
        seconds = time.perf_counter() - started
        values: dict[str, Any] = {name: at.epoch_sums[name] / at.epoch_counts[name] for name in at.epoch_sums}
        values = {"loss": sum(values.values())} | values
        validated = self.validated() if self.validate and (last or (at.epoch + 1) % self.val_every == 0) else {}
        best = self.is_best(validated)
        line = {"kind": "epoch", "epoch": at.epoch + 1, "iteration": at.turn, **values, **validated, "lr": rate}
        self.log.write(**line, images_per_second=round(seen / seconds, 2), seconds=round(seconds, 2))
        self.keeper.epoch(self.step.evaluated, line, best=best)
        if at.batch >= len(self.loader):  # else `turns` ended it early, and a longer run would go on inside it
            at.epoch, at.batch, at.epoch_sums, at.epoch_counts = at.epoch + 1, 0, {}, {}
        if last or at.epoch % self.save_every == 0:
            self.keeper.save(self.state_dict())
        self.reporter.epoch(epoch=line["epoch"], values=line | {"seconds": seconds}, best=best)

    def one_turn(self, group: list[Any]) -> tuple[dict[str, float], float]:
        """Every phase that is due, on the same batches. Returns the losses by name (means over the group) and the first phase's rate."""
        batches = [(item.batch.to(self.device, self.format), item.names) for item in group]
        count = sum(len(batch) for batch, _ in batches)
        factor = self.schedule(self.at.turn)
        values: dict[str, float] = {}
        due = [pair for pair in zip(self.phases, self.rates, strict=True) if self.at.turn % pair[0].every == 0]
        for phase, rates in due:
            for one, rate in zip(phase.optimizer.param_groups, rates, strict=True):
                one["lr"] = rate * factor
            self.only(phase)
            phase.optimizer.zero_grad(set_to_none=True)
            for batch, names in batches:
                weight = len(batch) / count
                with autocast(self.device, self.precision):
                    losses = phase.losses(batch)
                for name, value in self.finite(losses, names).items():
                    values[name] = values.get(name, 0.0) + value * weight
                total = torch.stack([value.float() for value in losses.values()]).sum() * weight
                self.scaler.scale(total).backward()
            if self.clip:
                self.scaler.unscale_(phase.optimizer)
                norm = nn.utils.clip_grad_norm_(phase.params, self.clip)
                if not self.scaler.is_enabled() and not math.isfinite(norm):  # the scaler leaves such a turn out
                    raise CvtoolError(
                        f"the gradient is not finite, though the loss is: {', '.join(values)}",
                        where=f"epoch {self.at.epoch + 1}, turn {self.at.turn + 1}: {', '.join(name for _, names in batches for name in names)}",
                        hint="a lower --lr, a longer warmup or --precision fp32 may help; the last saved state is kept",
                    )
            self.scaler.step(phase.optimizer)
        if due:
            self.scaler.update()
        self.step.after(batches[-1][0])
        return values, self.rates[0][0] * factor

    def only(self, phase: Phase) -> None:
        """Gradients for this phase's parameters and no others."""
        if len(self.phases) > 1:
            mine = {id(p) for p in phase.params}
            for key, p in self.params.items():
                p.requires_grad_(key in mine)

    def finite(self, losses: Mapping[str, Tensor], names: list[str]) -> dict[str, float]:
        """The values, read in one go. Raises CvtoolError that names the terms, the turn and the pictures."""
        if not losses:
            raise CvtoolError("the model's losses are empty", where=f"turn {self.at.turn + 1}")
        values = dict(zip(losses, torch.stack([value.detach().float() for value in losses.values()]).tolist(), strict=True))
        if bad := {name: value for name, value in values.items() if value - value != 0}:
            said = ", ".join(f"{name} = {value}" for name, value in bad.items())
            raise CvtoolError(
                f"the loss is not finite: {said}",
                where=f"epoch {self.at.epoch + 1}, turn {self.at.turn + 1}: {', '.join(names)}",
                hint="a lower --lr, a longer warmup, --set clip=1 or --precision fp32 may help; the last saved state is kept",
            )
        return values

    def gather(self, losses: dict[str, float]) -> None:
        at = self.at
        for sums, counts in ((at.sums, at.counts), (at.epoch_sums, at.epoch_counts)):
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + 1

    def tick(self, rate: float, clock: Clock) -> None:
        """A line of the log: means since the last one."""
        at = self.at
        losses = {name: at.sums[name] / at.counts[name] for name in at.sums}
        speed, seconds = clock.lap()
        line = {"kind": "tick", "epoch": at.epoch + 1, "iteration": at.turn, "loss": sum(losses.values()), **losses, "lr": rate}
        self.log.write(**line, images_per_second=round(speed, 2), seconds=round(seconds, 2))
        at.sums, at.counts = {}, {}

    def validated(self) -> dict[str, float]:
        assert self.validate is not None
        before = rng_state()  # whatever validation draws, training goes on as if it had not been there
        torch.manual_seed(0)
        try:
            return self.validate(self.step.evaluated)
        finally:
            set_rng_state(before)
            self.step.model.train()

    def is_best(self, values: dict[str, float]) -> bool:
        for name, larger in self.better:
            if name in values and math.isfinite(values[name]):
                score = values[name] if larger else -values[name]
                if self.at.best is None or score > self.at.best:
                    self.at.best, self.at.best_epoch = score, self.at.epoch + 1
                    return True
                return False
        return False

    def check_signal(self) -> None:
        if self.signal is not None:
            raise Stopped

    @contextmanager
    def signals(self) -> Iterator[None]:
        """The first SIGTERM or Ctrl-C ends the run at the next turn, saved; a second one is not held back."""
        before: dict[int, Any] = {}

        def ask(number: int, frame: Any) -> None:
            self.signal = number
            restore()

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)
            before.clear()

        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, ask)
        except ValueError:  # not the main thread: signals are somebody else's
            pass
        try:
            yield
        finally:
            restore()


@dataclass
class Clock:
    """Pictures and seconds since the last lap."""

    since: float = field(default_factory=time.perf_counter)
    images: int = 0

    def lap(self) -> tuple[float, float]:
        now = time.perf_counter()
        seconds, images = now - self.since, self.images
        self.since, self.images = now, 0
        return images / seconds if seconds else 0.0, seconds
