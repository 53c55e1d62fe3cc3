"""Learning-rate schedules: pure functions from an optimiser's turn to a factor of its own learning rate, so a resumed run needs no state."""

from __future__ import annotations

import math
from collections.abc import Callable

from cvtool.errors import UsageError, did_you_mean

Schedule = Callable[[int], float]


def constant(done: float) -> float:
    return 1.0


def cosine(done: float) -> float:
    """(1 + cos(pi t)) / 2 (Loshchilov 2017, arXiv:1608.03983, eq. 5 without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * done))


def step(done: float) -> float:
    """A tenth after 2/3 of the way, a hundredth after 8/9: the detectors' schedule (8 and 11 of 12 epochs, rounded)."""
    return 1.0 if done < 2 / 3 else 0.1 if done < 8 / 9 else 0.01


DECAYS: dict[str, Callable[[float], float]] = {"constant": constant, "cosine": cosine, "step": step}
NAMES = ("one-cycle", *DECAYS)


def make(name: str, *, turns: int, warmup: int = 0) -> Schedule:
    """The factor at turn 0 <= n < turns.

    one-cycle: cosine from 1/25 up to 1 in the first `warmup` turns (a tenth of all if none are given), then cosine down to 1/250,000
      (Smith 2018, arXiv:1708.07120, with torch's constants). The others rise linearly to 1 in `warmup` turns, then follow their curve.
    """
    if name not in NAMES:
        raise UsageError(f"unknown schedule '{name}'", hint=did_you_mean(name, NAMES) or "schedules: " + ", ".join(NAMES))
    last = max(1, turns - 1)
    if name == "one-cycle":
        peak = min(max(1, warmup or round(0.1 * turns)), last)

        def one_cycle(turn: int) -> float:
            if turn <= peak:
                return 1 + (1 / 25 - 1) * cosine(turn / peak)
            return 1 / 250_000 + (1 - 1 / 250_000) * cosine(min(1.0, (turn - peak) / max(1, last - peak)))

        return one_cycle
    curve = DECAYS[name]

    def warmed(turn: int) -> float:
        if turn < warmup:
            return (turn + 1) / (warmup + 1)
        return curve(min(1.0, (turn - warmup) / max(1, turns - warmup)))

    return warmed


def warmup_turns(value: float, *, turns: int, per_epoch: int) -> int:
    """`warmup` as it stands in a recipe: below 1 a fraction of the run, from 1 on epochs."""
    if value < 0:
        raise UsageError(f"warmup={value} is negative", hint="below 1 it is a fraction of the run, from 1 on a number of epochs")
    return min(turns, round(value * turns) if value < 1 else round(value * per_epoch))
