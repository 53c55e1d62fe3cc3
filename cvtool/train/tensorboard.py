"""A run's log as TensorBoard reads it, beside log.jsonl: `tensorboard --logdir runs/`. An extra, because few need it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cvtool.errors import MissingDependency

_PLACE = ("kind", "epoch", "iteration", "phase")


class TensorBoard:
    """Give it the log's lines. Losses and metrics go by optimiser turn; a tick's under `train/`, a validation's under `val/`, layers' by their names.

    Raises MissingDependency where the package is not installed.
    """

    def __init__(self, folder: Path, *, turn: int = 0) -> None:
        """turn: where the run goes on; what was written beyond it is hidden."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingDependency("--tensorboard needs the package tensorboard", hint="pip install 'cvtool[tensorboard]'") from error
        self.trained: set[str] = set()  # what ticks hold, and epochs' lines then repeat
        self.writer = SummaryWriter(str(folder), purge_step=turn + 1 if turn else None)

    def __call__(self, line: dict[str, Any]) -> None:
        kind, turn = line.get("kind"), line.get("iteration", 0)
        if kind == "statistics":
            for layer, figures in line["layers"].items():
                for name, value in figures.items():
                    self.writer.add_scalar(f"{name}/{layer}", value, turn)
            return
        for name, value in line.items():
            if name in _PLACE or not isinstance(value, (int, float)):
                continue
            if kind == "tick":
                self.trained.add(name)
                self.writer.add_scalar(f"train/{name}", value, turn)
            elif name not in self.trained:
                self.writer.add_scalar(f"val/{name.removeprefix('val_')}", value, turn)

    def close(self) -> None:
        self.writer.close()
