"""What a training run tells on stderr: a bar on a terminal, a line an epoch elsewhere, nothing with -q."""

from __future__ import annotations

import sys
import time
from typing import Any

from cvtool.cli._console import Console


def reporter(console: Console) -> Any:
    """A listener of the training loop."""
    from cvtool.train.log import Reporter
    from cvtool.train.validate import FIGURES

    class Lines(Reporter):
        """One line an epoch."""

        epochs = 0
        bar: Any = None
        detailed = bool(console.verbose) and not console.quiet

        def start(self, *, epochs: int, turns: int, done: int) -> None:
            self.epochs, self.begun, self.turns, self.done = epochs, time.monotonic(), turns, done
            self.last = done  # a run that was stopped after an epoch's last turn tells of that epoch first
            if not console.quiet and sys.stderr.isatty():
                self.bar = _bar(turns, done)

        def turn(self, *, epoch: int, turn: int, losses: dict[str, float], lr: float, images: int) -> None:
            self.last = turn
            if self.bar is not None:
                progress, task = self.bar
                progress.update(task, completed=turn, description=f"epoch {epoch + 1}/{self.epochs}  loss {sum(losses.values()):.4f}")

        def epoch(self, *, epoch: int, values: dict[str, Any], best: bool) -> None:
            parts = [f"loss {values['loss']:.4f}"]
            parts += [f"val_loss {values['val_loss']:.4f}"] if "val_loss" in values else []
            parts += [f"{name.removeprefix('val_')} {values[name]:.4f}" for name in FIGURES if name in values]
            if console.verbose:
                shown = {"loss", "val_loss", "seconds", *FIGURES}
                parts += [f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, float) and name not in shown]
            left = (time.monotonic() - self.begun) / max(1, self.last - self.done) * (self.turns - self.last)
            text = f"epoch {epoch}/{self.epochs}  {'  '.join(parts)}  {values['seconds']:.0f} s, {_span(left)} left{'  (best)' if best else ''}"
            self.note(text)

        def note(self, text: str) -> None:
            if self.bar is not None:
                self.bar[0].console.print(text, highlight=False)
            else:
                console.say(text)

        def detail(self, text: str) -> None:
            if self.detailed:
                self.note(text)

        def stop(self) -> None:
            if self.bar is not None:
                self.bar[0].stop()
                self.bar = None

    return Lines()


def _bar(turns: int, done: int) -> tuple[Any, Any]:
    from rich.console import Console as Rich
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Rich(stderr=True), transient=True)
    task = progress.add_task("starting", total=turns, completed=done)
    progress.start()
    return progress, task


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
