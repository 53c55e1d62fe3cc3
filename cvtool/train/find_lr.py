"""The learning-rate range test: train at ever higher rates for a few turns, and take the rate at which the loss falls fastest.

Smith 2017 (arXiv:1506.01186, section 3.3), with rates that grow by a constant factor and a smoothed loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cvtool.errors import CvtoolError

LOW, HIGH, TURNS = 1e-7, 10.0, 100
SMOOTH = 0.9  # of the average of the loss: about its last ten values, in which a rate grows by a factor of 6
WORSE = 4.0  # times the least smoothed loss, where the test ends


def rates(low: float = LOW, high: float = HIGH, turns: int = TURNS) -> list[float]:
    """`turns` rates from `low` to `high`, each the same factor above the one before."""
    if turns < 2 or not 0 < low < high:
        raise ValueError(f"a range test needs at least two turns and 0 < low < high, not {turns} turns from {low} to {high}")
    return [low * (high / low) ** (turn / (turns - 1)) for turn in range(turns)]


@dataclass
class Finding:
    """The rates tried, the loss at each, and its smoothed curve (an exponential average, freed of its start at 0)."""

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    smoothed: list[float] = field(default_factory=list)

    def add(self, rate: float, loss: float) -> bool:
        """Whether to go on: not behind a loss that is not finite, nor behind a smoothed one that is `WORSE` times the least."""
        if not math.isfinite(loss):
            return False
        before = self.smoothed[-1] * (1 - SMOOTH ** len(self.losses)) if self.smoothed else 0.0
        self.rates.append(rate)
        self.losses.append(loss)
        self.smoothed.append((SMOOTH * before + (1 - SMOOTH) * loss) / (1 - SMOOTH ** len(self.losses)))
        return self.smoothed[-1] <= WORSE * min(self.smoothed)

    @property
    def steepest(self) -> float:
        """The rate at which the smoothed loss falls fastest by the logarithm of the rate: the suggestion.

        It is sought in the two decades before the least loss, for what goes before is noise; a slope is that of the straight line through half a
        decade. Raises CvtoolError where the loss falls nowhere.
        """
        x = [math.log10(rate) for rate in self.rates]
        best, slope = None, 0.0
        for turn, rate in enumerate(self.rates):
            near = [at for at in range(len(x)) if abs(x[at] - x[turn]) <= 0.25] if self.least / 100 <= rate <= self.least else []
            if len(near) < 2:
                near = [at for at in (turn - 1, turn, turn + 1) if 0 <= at < len(x)] if near else []
            if near and (found := _slope([x[at] for at in near], [self.smoothed[at] for at in near])) < slope:
                best, slope = rate, found
        if best is None:
            raise CvtoolError("the loss falls at no learning rate", hint="look at the data, the labels and the loss: `--overfit 1` and -v help")
        return best

    @property
    def least(self) -> float:
        """The rate of the least smoothed loss, which is too high to start with."""
        return self.rates[min(range(len(self.smoothed)), key=self.smoothed.__getitem__)]


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the straight line with the least squares."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread if spread else 0.0


def search(turn: Callable[[float, Any], float], items: Iterator[Any], tried: Sequence[float] | None = None) -> Finding:
    """The test itself. turn: (rate, what `items` gives) -> the loss of a turn at that rate, before its step; an overflow may raise CvtoolError."""
    found = Finding()
    for rate, item in zip(rates() if tried is None else tried, items, strict=False):
        try:
            loss = turn(rate, item)
        except CvtoolError:
            if len(found.losses) < 2:  # the model is broken whatever the rate
                raise
            break
        if not found.add(rate, loss):
            break
    return found
