"""Learning-rate schedules by name: functions from an optimiser's turn to a factor of its own learning rate.

    constant
    cosine[:least=0,cycles=1,mult=1]      half a cosine from 1 to `least`; `cycles` of them, each `mult` times as long as the one before (SGDR)
    step[:AT,AT,...,gamma=0.1,every=0]    times gamma at each AT: below 1 a fraction of the run, from 1 on epochs; or every N epochs. Unless told
                                          at 2/3 and 8/9, the detectors' schedule (8 and 11 of 12 epochs, rounded)
    poly[:power=0.9,least=0]              (1 - t)^power, the segmenters' schedule
    exponential[:gamma=0.95]              times gamma an epoch, a little each turn
    one-cycle[:div=25,final=10000]        up from 1/div by a cosine, then down by a cosine to 1/(div final)
    plateau[:patience=10,factor=0.1,watch=val_loss,least=0]    times factor when `watch` has not become better for more than `patience` validations

All but one-cycle, which has its own, rise linearly to 1 in the warm-up's turns and then follow their curve. All but plateau are pure, so that a
resumed run needs no state; plateau is told of each validation by `observe` and has a state_dict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from cvtool import calls
from cvtool.errors import CvtoolError, UsageError, did_you_mean

Schedule = Callable[[int], float]
Curve = Callable[[float], float]  # of the share of the run that is done, after the warm-up: 0 <= t <= 1

ARGUMENTS: dict[str, dict[str, Any]] = {
    "constant": {},
    "cosine": {"least": 0.0, "cycles": 1, "mult": 1},
    "exponential": {"gamma": 0.95},
    "one-cycle": {"div": 25.0, "final": 1e4},
    "plateau": {"patience": 10, "factor": 0.1, "watch": "val_loss", "least": 0.0},
    "poly": {"power": 0.9, "least": 0.0},
    "step": {"gamma": 0.1, "every": 0},
}
NAMES = tuple(ARGUMENTS)
_RANGES = {  # argument -> what it must be, and the test of it
    "least": ("from 0 to 1", lambda v: 0 <= v <= 1), "cycles": ("at least 1", lambda v: v >= 1), "mult": ("at least 1", lambda v: v >= 1),
    "gamma": ("above 0", lambda v: v > 0), "div": ("at least 1", lambda v: v >= 1), "final": ("at least 1", lambda v: v >= 1),
    "patience": ("at least 0", lambda v: v >= 0), "factor": ("between 0 and 1", lambda v: 0 < v < 1), "power": ("above 0", lambda v: v > 0),
    "every": ("at least 0", lambda v: v >= 0), "watch": ("a name", bool),
}  # fmt: skip


def constant(done: float) -> float:
    return 1.0


def cosine(done: float) -> float:
    """(1 + cos(pi t)) / 2 (Loshchilov 2017, arXiv:1608.03983, eq. 5)."""
    return 0.5 * (1 + math.cos(math.pi * done))


def make(text: str, *, turns: int, warmup: int = 0, per_epoch: int = 1) -> Schedule:
    """The factor at turn 0 <= n < turns, of which `warmup` rise to 1; `per_epoch` turns are an epoch. Raises UsageError.

    one-cycle: up in the first `warmup` turns, a tenth of all if there are none (Smith 2018, arXiv:1708.07120, with torch's constants).
    """
    call = calls.one(text, "schedule")
    if call.name not in ARGUMENTS:
        raise UsageError(f"unknown schedule '{call.name}'", hint=did_you_mean(call.name, NAMES) or "schedules: " + ", ".join(NAMES))
    given = calls.Call(call.name, () if call.name == "step" else call.args, call.kwargs)
    options = calls.bind(given, ARGUMENTS[call.name], "schedule")
    for key, value in options.items():
        words, fits = _RANGES[key]
        if not fits(value):
            raise UsageError(f"schedule: {key} of {call.name} is {words}, not {value}")
    if call.name == "one-cycle":
        return _one_cycle(turns, warmup, **options)
    if call.name == "plateau":
        return Plateau(**options, warmup=warmup)
    if call.name == "exponential":
        return _warmed(lambda turn: options["gamma"] ** ((turn - warmup) / per_epoch), warmup)
    if call.name == "step":
        return _warmed(_steps(call, turns=turns, warmup=warmup, per_epoch=per_epoch, **options), warmup)
    curve = {"constant": constant, "cosine": cosine, "poly": lambda done: (1 - done) ** options["power"]}[call.name]
    least = options.get("least", 0.0)
    if options.get("cycles", 1) > 1:
        curve = _restarted(curve, options["cycles"], options["mult"])

    def follow(turn: int) -> float:
        done = min(1.0, (turn - warmup) / max(1, turns - warmup))
        return least + (1 - least) * curve(done) if least else curve(done)

    return _warmed(follow, warmup)


def _warmed(curve: Schedule, warmup: int) -> Schedule:
    """The curve after `warmup` turns at 1/(w+1), 2/(w+1), ... (Goyal 2017, arXiv:1706.02677, section 2.2; torch's LinearLR)."""
    return lambda turn: (turn + 1) / (warmup + 1) if turn < warmup else curve(turn)


def _restarted(curve: Curve, cycles: int, mult: int) -> Curve:
    """The curve several times over, each time over a stretch `mult` times as long as the one before."""
    lengths = [float(mult**i) for i in range(cycles)]
    whole = sum(lengths)

    def again(done: float) -> float:
        at = done * whole
        for length in lengths[:-1]:
            if at < length - 1e-9 * whole:  # a turn on the border begins the next, whatever the rounding
                return curve(max(0.0, at / length))
            at -= length
        return curve(min(1.0, max(0.0, at / lengths[-1])))

    return again


def _steps(call: calls.Call, *, turns: int, warmup: int, per_epoch: int, gamma: float, every: int) -> Schedule:
    """Milestones by fraction of what follows the warm-up, by epoch, or every so many epochs. Raises UsageError."""
    at = [float(value) for value in call.args if not isinstance(value, (str, bool))]
    if len(at) < len(call.args) or any(value <= 0 for value in at) or at != sorted(set(at)):
        raise UsageError(f"schedule: '{call}' does not name growing numbers above 0", hint="such as step:8,11 (epochs) or step:0.5,0.75")
    epochs = [value for value in at if value >= 1]
    if every and at:
        raise UsageError(f"schedule: '{call}' says both when and how often to step", hint="step:8,11 or step:every=8")
    if epochs and (len(epochs) < len(at) or any(value % 1 for value in epochs)):
        raise UsageError(f"schedule: '{call}' mixes epochs and fractions", hint="step:8,11 (whole epochs) or step:0.5,0.75 (of the run)")
    if every:
        return lambda turn: gamma ** (turn // per_epoch // every)
    if epochs:
        return lambda turn: gamma ** sum(turn // per_epoch >= value for value in epochs)
    parts = at or [2 / 3, 8 / 9]
    return lambda turn: gamma ** sum((turn - warmup) / max(1, turns - warmup) >= part for part in parts)


def _one_cycle(turns: int, warmup: int, *, div: float, final: float) -> Schedule:
    last = max(1, turns - 1)
    peak = min(max(1, warmup or round(0.1 * turns)), last)
    low, end = 1 / div, 1 / (div * final)

    def factor(turn: int) -> float:
        if turn <= peak:
            return 1 + (low - 1) * cosine(turn / peak)
        return end + (1 - end) * cosine(min(1.0, (turn - peak) / max(1, last - peak)))

    return factor


class Plateau:
    """torch's ReduceLROnPlateau: smaller by `factor` after more than `patience` validations in a row without a better value.

    Better is by more than a ten-thousandth of the best; smaller for names that end in `loss` or `error`, larger for all others. `observe` is called
    after each validation with its values; what is not finite is not better.
    """

    def __init__(self, *, patience: int, factor: float, watch: str, least: float, warmup: int = 0) -> None:
        self.patience, self.factor, self.watch, self.least, self.warmup = patience, factor, watch, least, warmup
        self.now, self.best, self.waited = 1.0, math.nan, 0

    def __call__(self, turn: int) -> float:
        return (turn + 1) / (self.warmup + 1) if turn < self.warmup else self.now

    def observe(self, values: Mapping[str, float]) -> None:
        """Raises CvtoolError where `watch` is not among the values."""
        if self.watch not in values:
            raise CvtoolError(f"the schedule watches {self.watch}, which this validation does not measure", hint=f"it measures {', '.join(values)}")
        if self.better(values[self.watch]):
            self.best, self.waited = values[self.watch], 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.now, self.waited = max(self.now * self.factor, self.least), 0

    def better(self, value: float) -> bool:
        if math.isnan(self.best) or not math.isfinite(value):
            return math.isfinite(value)
        return value < self.best * (1 - 1e-4) if self.watch.endswith(("loss", "error")) else value > self.best * (1 + 1e-4)

    def state_dict(self) -> dict[str, Any]:
        return {"now": self.now, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.now, self.best, self.waited = state["now"], state["best"], state["waited"]


def warmup_turns(value: float, *, turns: int, per_epoch: int) -> int:
    """`warmup` as it stands in a recipe: below 1 a fraction of the run, from 1 on epochs."""
    if value < 0:
        raise UsageError(f"warmup={value} is negative", hint="below 1 it is a fraction of the run, from 1 on a number of epochs")
    return min(turns, round(value * turns) if value < 1 else round(value * per_epoch))
