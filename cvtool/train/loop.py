"""The training loop. There is no other.

It walks over the phases of a step and owns time: batches into turns, precision, accumulation, clipping, schedules, the log, validation,
saving, stopping. It knows no model and no method. A run that is stopped at any moment and resumed gives the same losses to the bit: the data
depend on (seed, epoch, index), the schedules on the turn or a state that is saved, and all else lies in one state file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cvtool.batch import Batch
from cvtool.errors import CvtoolError
from cvtool.runtime.device import autocast, peak_memory
from cvtool.train import nonfinite, transfer
from cvtool.train.compiled import eagerly
from cvtool.train.distributed import World
from cvtool.train.log import Log, Reporter
from cvtool.train.position import BETTER, Clock, Position
from cvtool.train.reduce import Reducer
from cvtool.train.schedule import Schedule
from cvtool.train.sharded import Sharded, gathered
from cvtool.train.signals import Signals, Stopped
from cvtool.train.state import rng_state, set_rng_state
from cvtool.train.statistics import Statistics
from cvtool.train.step import Phase, Step

DIVERGED = 1e4  # times the first loss, or 1 where that was smaller: no way leads back from there


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


@dataclass
class Loop:
    """One run.

    epochs, turns: the run ends after whichever comes first; `turns` 0 is no limit.
    clip: the largest gradient norm of a phase, 0 for none. accumulate: batches a turn.
    validate: model -> values for the epoch's line; called every `val_every` epochs and after the last. `better` names the value that
      decides which epoch is best: (name, True if larger is better), the first that is there.
    patience: validations without a better one that end the run, 0 for none. enough: values of a validation -> whether the run may end with it.
    save_every: epochs between states; the run's end and a signal save too.
    change: (a batch on its device, turn, its number in the turn) -> what the phases get, such as noise; must depend on these alone.
    begin: called once with the first batch, before anything is computed.
    world: the processes that share each turn's pictures; what is logged, validated and decided is the same in all of them.
    sharded: the step's model in parts, each process holding one. synced: its layers that normalise over the pictures of all processes.
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
    better: tuple[tuple[str, bool], ...] = BETTER
    patience: int = 0
    enough: Callable[[Mapping[str, Any]], bool] | None = None
    change: Callable[[Batch, int, int], Batch] | None = None
    begin: Callable[[Batch], None] | None = None
    statistics: Statistics | None = None
    reporter: Reporter = field(default_factory=Reporter)
    resume_hint: str | None = None
    world: World = field(default_factory=World)
    sharded: Sharded | None = None
    synced: list[nn.Module] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.at = Position()
        self.phases = self.step.phases()
        self.rates = [[group["lr"] for group in phase.optimizer.param_groups] for phase in self.phases]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16" and self.device.type == "cuda")
        self.format = torch.channels_last if self.channels_last else torch.preserve_format
        self.params = {id(p): p for phase in self.phases for p in phase.params}
        self.signals = Signals()
        self.heard: int | None = None  # a signal to any of the processes
        self.reducers = {} if self.world.alone or self.sharded else {phase.name: Reducer(self.world, phase.params) for phase in self.phases}

    @property
    def in_step(self) -> bool:
        """Whether no process can compute the model alone."""
        return self.sharded is not None or bool(self.synced)

    @property
    def turns_an_epoch(self) -> int:
        return -(-len(self.loader) // self.accumulate)

    @property
    def all_turns(self) -> int:
        return min(self.turns or self.epochs * self.turns_an_epoch, self.epochs * self.turns_an_epoch)

    def state_dict(self) -> dict[str, Any]:
        state = {
            "step": gathered(self.step.state_dict()) if self.sharded else self.step.state_dict(),
            "scaler": self.scaler.state_dict(),
            "position": asdict(self.at),
            "log_bytes": self.log.tell(),
        }
        state["rng"], *state["rng_of_others"] = self.world.exchange(rng_state())
        return state | ({"schedule": self.schedule.state_dict()} if hasattr(self.schedule, "state_dict") else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.sharded:
            self.sharded.load(self.step, state["step"], [phase.optimizer for phase in self.phases])
        else:
            self.step.load_state_dict(state["step"])
        self.scaler.load_state_dict(state["scaler"])
        if "schedule" in state:
            self.schedule.load_state_dict(state["schedule"])  # type: ignore[attr-defined]
        self.at = Position(**state["position"])
        streams = [state["rng"], *state.get("rng_of_others", ())]
        if self.world.rank < len(streams):
            set_rng_state(streams[self.world.rank])

    def run(self) -> Position:
        """Train to the end. Raises CvtoolError for a loss that is not finite, Terminated or Interrupted after a signal, having saved."""
        self.reporter.start(epochs=self.epochs, turns=self.all_turns, done=self.at.turn)
        with self.signals.caught():
            try:
                while self.at.epoch < self.epochs and self.at.turn < self.all_turns and not (self.at.ended or self.out_of_patience):
                    self.one_epoch()
            except Stopped:
                self.keeper.save(self.state_dict())
                what = f"stopped in epoch {self.at.epoch + 1}, turn {self.at.turn}; everything is saved"
                raise self.world.spoken(self.signals.error(what, self.resume_hint)) from None
            finally:
                self.reporter.stop()
        return self.at

    def one_epoch(self) -> None:
        at, seen = self.at, 0
        tick, whole = Clock(), Clock()
        transfer.training(self.step.model)
        if hasattr(self.step, "begin_epoch"):
            self.step.begin_epoch(self.loader, at.epoch, at.batch)
        items = self.loader.epoch(at.epoch, at.batch)
        rate = self.rates[0][0] * self.schedule(max(0, at.turn - 1))
        while at.turn < self.all_turns and (group := list(islice(items, self.accumulate))):
            losses, rate = self.one_turn(group)
            at.batch += len(group)
            at.turn += 1
            images = sum(self.pictures(item) for item in group)
            seen += images
            for clock in (tick, whole):
                clock.images, clock.turns = clock.images + images, clock.turns + 1
            at.gather(losses)
            self.reporter.turn(epoch=at.epoch, turn=at.turn, losses=losses, lr=rate, images=images)
            if at.turn % self.log_every == 0:
                self.tick(rate, tick)
            self.obey()
        if at.counts:
            self.tick(rate, tick)
        last = at.epoch + 1 >= self.epochs or at.turn >= self.all_turns
        times = whole.lap()
        values: dict[str, Any] = at.means()
        validated = self.validated() if self.validate and (last or (at.epoch + 1) % self.val_every == 0) else {}
        best = at.judge(validated, values["loss"], self.better)
        line = {"kind": "epoch", "epoch": at.epoch + 1, "iteration": at.turn, **values, **validated, "lr": rate}
        if not self.world.alone and (dataset := getattr(self.loader, "dataset", None)) is not None:
            for bad in self.world.exchange(dataset.bad):
                dataset.bad.update(bad)
        skipped = {"skipped_images": n} if (n := getattr(self.loader, "skipped", 0)) else {}
        self.log.write(**line, **skipped, peak_memory=peak_memory(self.device), **times)
        self.keeper.epoch(self.sharded.whole() if self.sharded else self.step.evaluated, line, best=best)
        if validated and hasattr(self.schedule, "observe"):
            self.schedule.observe(validated)
        at.ended = bool(validated and self.enough and self.enough(line))
        last = last or at.ended or self.out_of_patience
        if at.batch >= len(self.loader):  # else `turns` ended it early, and a longer run would go on inside it
            at.epoch, at.batch, at.epoch_sums, at.epoch_counts = at.epoch + 1, 0, {}, {}
        if last or at.epoch % self.save_every == 0:
            self.keeper.save(self.state_dict())
        self.reporter.epoch(epoch=line["epoch"], values=line | times, best=best)
        for text in (*getattr(self.loader, "news", list)(), *getattr(self.step, "news", list)()):
            self.reporter.note(text)
        if self.out_of_patience:
            self.reporter.note(at.why_stopped(values["loss"], validated.get("val_loss")))

    def one_turn(self, group: list[Any]) -> tuple[dict[str, float], float]:
        """Every phase that is due, on the same batches. Returns the losses by name (means over the group) and the first phase's rate."""
        turn = self.at.turn
        batches = [(self.given(item.batch, number), item.names) for number, item in enumerate(group)]
        count = sum(self.pictures(item) for item in group)
        shares = [(len(item.batch) if self.world.alone else item.counted) / count for item in group]
        factor = self.schedule(turn)
        watch = self.statistics if self.statistics is not None and self.statistics.due(turn) else None
        values: dict[str, float] = {}
        due = [pair for pair in zip(self.phases, self.rates, strict=True) if pair[0].due(turn)]
        for phase, rates in due:
            for one, rate in zip(phase.optimizer.param_groups, rates, strict=True):
                one["lr"] = rate * factor
            self.only(phase)
            phase.optimizer.zero_grad(set_to_none=True)
            found: list[dict[str, Tensor]] = []
            reducer = self.reducers.get(phase.name)
            with watch.watching() if watch else nullcontext():
                for number, ((batch, _), weight) in enumerate(zip(batches, shares, strict=True), 1):
                    for layer in self.synced:
                        layer.counts = weight > 0  # type: ignore[assignment]
                    losses = self.computed(phase, batch)
                    if not losses:
                        raise CvtoolError("the model's losses are empty", where=f"turn {turn + 1}")
                    found.append({name: value.detach().float() for name, value in losses.items()})
                    total = torch.stack([value.float() for value in losses.values()]).sum()
                    if getattr(phase.optimizer, "needs_loss", False):
                        phase.optimizer.curvature(total, weight)  # type: ignore[attr-defined]
                    if reducer is not None and number == len(batches):
                        reducer.arm()
                    if self.sharded:
                        self.sharded.last(number == len(batches))
                    self.scaler.scale(total * weight).backward()
            if reducer is not None:
                reducer.finish()
            self.scaler.unscale_(phase.optimizer)
            norm = nn.utils.get_total_norm([p.grad for p in phase.params if p.grad is not None])
            if self.sharded:
                norm = norm.full_tensor()  # type: ignore[attr-defined]
            for name, value in self.finite(found, norm, phase, batches, shares).items():
                values[name] = values.get(name, 0.0) + value
            if self.clip and not float(norm) <= self.clip:  # read above already; most turns need no pass over all gradients
                nn.utils.clip_grads_with_norm_(phase.params, self.clip, norm)
            if watch:
                watch.before()
            self.scaler.step(phase.optimizer)
            if watch:
                named = {"phase": phase.name} if len(self.phases) > 1 else {}
                self.log.write(kind="statistics", epoch=self.at.epoch + 1, iteration=turn + 1, **named, gradient=float(norm), **watch.after())
        if due:
            self.scaler.update()
        if not self.world.alone:
            self.world.align(list(self.step.model.buffers()))  # running statistics, which each has of its own part
        self.step.after(batches[-1][0])
        return values, self.rates[0][0] * factor

    def given(self, batch: Batch, number: int) -> Batch:
        """A batch as the phases get it."""
        batch = batch.to(self.device, self.format)
        if self.begin is not None:
            begin, self.begin = self.begin, None
            begin(batch)
        return batch if self.change is None else self.change(batch, self.at.turn, number * self.world.size + self.world.rank)

    def pictures(self, item: Any) -> int:
        """How many there are in a batch, in all processes."""
        return len(item.batch) if self.world.alone else item.whole

    def only(self, phase: Phase) -> None:
        """Gradients for this phase's parameters and no others."""
        if len(self.phases) > 1:
            mine = {id(p) for p in phase.params}
            for key, p in self.params.items():
                p.requires_grad_(key in mine)

    def finite(
        self, found: list[dict[str, Tensor]], norm: Tensor, phase: Phase, batches: list[tuple[Batch, list[str]]], shares: list[float]
    ) -> dict[str, float]:
        """The losses of the batches, each times its share of the turn's pictures, of all processes together; read in one go with the gradient's norm,
        so that a GPU is waited for once a turn.

        Raises CvtoolError that names the terms, the layer where it began, the turn and the pictures.
        """
        numbers = torch.stack([*(value for losses in found for value in losses.values()), norm.to(self.device, torch.float32)]).tolist()
        values, error = dict[str, float](), None
        for losses, (batch, names), weight in zip(found, batches, shares, strict=True):
            read = dict(zip(losses, numbers, strict=False))
            numbers = numbers[len(losses) :]
            if bad := {name: value for name, value in read.items() if value - value != 0}:
                said = ", ".join(f"{name} = {value}" for name, value in bad.items())
                with eagerly():
                    layer = None if self.in_step else nonfinite.of_loss(self.step.model, partial(self.computed, phase, batch))
                begun = f"; it began in {layer}" if layer else "; the outputs of all layers are finite" * (not self.in_step)
                error = CvtoolError(f"the loss is not finite: {said}{begun}", where=self.place(names), hint=HINT)
                break
            for name, value in read.items():
                values[name] = values.get(name, 0.0) + value * weight
        values = self.of_all(values, error)
        if not self.scaler.is_enabled() and not math.isfinite(numbers[-1]):  # the scaler leaves such a turn out
            raise self.world.spoken(self.broken_gradient(phase, batches, list(values)))
        return values

    def of_all(self, losses: dict[str, float], error: CvtoolError | None) -> dict[str, float]:
        """The sums over all processes of their shares of the losses. What one of them has to say of an error or a signal, all hear."""
        if self.world.alone:
            if error is not None:
                raise error
            return losses
        told = self.world.exchange((losses, error is not None, self.signals.number))
        if any(bad for _, bad, _ in told):
            self.world.settle(error)
        self.heard = next((number for _, _, number in told if number is not None), None)
        names = dict.fromkeys(name for some, _, _ in told for name in some)
        return {name: math.fsum(some.get(name, 0.0) for some, _, _ in told) for name in names}

    def check(self) -> None:
        """Raises Stopped after a signal to any of the processes, each of which must call it."""
        self.heard = next((number for number in self.world.exchange(self.signals.number) if number is not None), None)
        self.obey()

    def obey(self) -> None:
        """Raises Stopped after a signal; among several processes, one that all have heard of."""
        if not self.world.alone:
            if self.heard is None:
                return
            self.signals.number = self.heard
        self.signals.check()

    def broken_gradient(self, phase: Phase, batches: list[tuple[Batch, list[str]]], names: list[str]) -> CvtoolError:
        """The error for a gradient that is not finite, naming the layer and the pictures where it is found."""
        layer, pictures = None, [name for _, some in batches for name in some]
        for batch, some in () if self.in_step else batches:
            with eagerly():
                layer = nonfinite.of_gradient(self.step.model, partial(self.computed, phase, batch))
            if layer is not None:
                pictures = some
                break
        layer, pictures = next((told for told in self.world.exchange((layer, pictures)) if told[0]), (layer, pictures))
        begun = f"; it began in {layer}" if layer else ""
        return CvtoolError(f"the gradient is not finite, though the loss is: {', '.join(names)}{begun}", where=self.place(pictures), hint=HINT)

    def computed(self, phase: Phase, batch: Batch) -> dict[str, Tensor]:
        with autocast(self.device, self.precision):
            return phase.losses(batch)

    def place(self, names: list[str]) -> str:
        return f"epoch {self.at.epoch + 1}, turn {self.at.turn + 1}: {', '.join(names)}"

    def tick(self, rate: float, clock: Clock) -> None:
        """A line of the log: means since the last one. Raises CvtoolError for a loss that has left every measure."""
        at = self.at
        losses = at.tick()
        line = {"kind": "tick", "epoch": at.epoch + 1, "iteration": at.turn, **losses, "lr": rate}
        self.log.write(**line, **clock.lap())
        if losses["loss"] > DIVERGED * max(1.0, abs(at.first or 0.0)):
            what = f"the loss diverges: {losses['loss']:.4g}, after {at.first:.4g} in the first turn, at a learning rate of {rate:.3g}"
            raise self.world.spoken(CvtoolError(what, where=f"epoch {at.epoch + 1}, turn {at.turn}", hint=HINT))

    def validated(self) -> dict[str, float]:
        assert self.validate is not None
        before = rng_state()  # whatever validation draws, training goes on as if it had not been there
        torch.manual_seed(0)
        try:
            return self.validate(self.step.evaluated)
        finally:
            set_rng_state(before)
            transfer.training(self.step.model)

    @property
    def out_of_patience(self) -> bool:
        return 0 < self.patience <= self.at.bad


HINT = "a lower --lr, a longer warmup, --set clip=1 or --precision fp32 may help; the last saved state is kept"
