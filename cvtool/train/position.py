"""Where a run stands: the part of its state that is neither weights nor random numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

BETTER = (
    ("AP", True),
    ("val_mIoU", True),
    ("val_accuracy", True),
    ("val_word_accuracy", True),
    ("val_hmean", True),
    ("val_knn_accuracy", True),
    ("val_loss", False),
)  # what decides, the first that is there: (name, larger)


@dataclass
class Position:
    """`batch` batches of `epoch` done, `turn` optimiser turns in all, and what the tick and the epoch at hand have gathered.

    best: of the deciding value, larger is better; at epoch `best_epoch`, whose mean training loss was `best_loss` and whose validation's loss was
    `best_val_loss`. bad: validations since then, score: the deciding value of the last.
    first: the first turn's loss. ended: before its time, because a validation was good enough.
    """

    epoch: int = 0
    batch: int = 0
    turn: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    epoch_sums: dict[str, float] = field(default_factory=dict)
    epoch_counts: dict[str, int] = field(default_factory=dict)
    best: float | None = None
    best_epoch: int | None = None
    best_loss: float | None = None
    best_val_loss: float | None = None
    score: float | None = None
    bad: int = 0
    first: float | None = None
    ended: bool = False

    def gather(self, losses: Mapping[str, float]) -> None:
        """A turn's losses."""
        if self.first is None:
            self.first = sum(losses.values())
        for sums, counts in ((self.sums, self.counts), (self.epoch_sums, self.epoch_counts)):
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + 1

    def tick(self) -> dict[str, float]:
        """The means since the last tick, `loss` (their sum) first."""
        means = {name: self.sums[name] / self.counts[name] for name in self.sums}
        self.sums, self.counts = {}, {}
        return {"loss": sum(means.values())} | means

    def means(self) -> dict[str, float]:
        """The epoch's means, `loss` first."""
        means = {name: self.epoch_sums[name] / self.epoch_counts[name] for name in self.epoch_sums}
        return {"loss": sum(means.values())} | means

    def judge(self, values: Mapping[str, float], loss: float, better: tuple[tuple[str, bool], ...] = BETTER) -> bool:
        """Whether a validation is the best so far. Counts those that are not; one that measured nothing says nothing."""
        for name, larger in better:
            if name in values and math.isfinite(values[name]):
                self.score = values[name] if larger else -values[name]
                if self.best is None or self.score > self.best:
                    self.best, self.best_epoch, self.best_loss, self.bad = self.score, self.epoch + 1, loss, 0
                    self.best_val_loss = values.get("val_loss")
                    return True
                break
        self.bad += bool(values)
        return False

    def why_stopped(self, loss: float, val_loss: float | None) -> str:
        """Both curves in a sentence. Overfitting is what it is called where the training still gets better and the validation worse."""
        if self.best is None or self.best_loss is None:
            return f"stopped early: {self.bad} validations have measured nothing that could be best"
        curves, worse = f"the training loss went from {self.best_loss:.4g} to {loss:.4g}", self.score is not None and self.score < self.best
        if val_loss is not None and self.best_val_loss is not None:
            curves += f" and the validation's from {self.best_val_loss:.4g} to {val_loss:.4g}"
            worse = worse or val_loss > self.best_val_loss
        because = "overfitting" if worse else "nothing more to be had by this measure"
        if loss > self.best_loss:
            because = "it does not learn any more, maybe at too high a rate"
        bad = "1 validation was" if self.bad == 1 else f"{self.bad} validations were"
        return f"stopped early: {bad} no better than that of epoch {self.best_epoch}; {curves} meanwhile ({because})"


@dataclass
class Clock:
    """Pictures, turns and seconds since the last lap."""

    since: float = field(default_factory=time.perf_counter)
    images: int = 0
    turns: int = 0

    def lap(self) -> dict[str, float]:
        now = time.perf_counter()
        seconds, images, turns = now - self.since, self.images, self.turns
        self.since, self.images, self.turns = now, 0, 0
        speed = images / seconds if seconds else 0.0
        return {"images_per_second": round(speed, 2), "seconds_per_iteration": round(seconds / max(1, turns), 6), "seconds": round(seconds, 2)}
