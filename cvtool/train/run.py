"""A run's folder: recipe.toml, log.jsonl, last and best checkpoints, state.pt, curves.png."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from cvtool import weights
from cvtool.errors import CvtoolError, UsageError
from cvtool.render import curves
from cvtool.train import state
from cvtool.train.recipe import Plan

RECIPE, LOG, STATE, LAST, BEST, MODEL, CURVES = (
    "recipe.toml", "log.jsonl", "state.pt", "last.safetensors", "best.safetensors", "model.safetensors", "curves.png",
)  # fmt: skip
REDRAW = 10.0  # seconds between two drawings of the curves while epochs are shorter


class Nobody:
    """The keeper in a process that leaves it to another one."""

    def save(self, values: dict[str, Any]) -> None: ...

    def epoch(self, model: nn.Module, values: dict[str, Any], *, best: bool) -> None: ...


class Run:
    """The loop's keeper. `info` describes the model for its checkpoints; `settled` is what a resumed run must have in common with this one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info = weights.Info()
        self.settled: dict[str, Any] = {}
        self._drawn = -REDRAW

    @classmethod
    def make(cls, output: Path, plan: Plan) -> Run:
        """The next free number under `output`; two runs that start together get two."""
        if output.exists() and not output.is_dir():
            raise UsageError("-o names a folder to make runs in, and this is a file", where=output)
        try:
            output.mkdir(parents=True, exist_ok=True)
            taken = [int(path.name) for path in output.iterdir() if path.name.isdigit()]
            number = max(taken, default=0) + 1
            while True:
                folder = output / f"{number:04d}"
                try:
                    folder.mkdir()
                    break
                except FileExistsError:
                    number += 1
        except OSError as error:
            raise CvtoolError(f"the run folder cannot be made: {error.strerror}", where=error.filename or output) from error
        run = cls(folder)
        try:
            run.write(plan)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            hint = "make room, or write elsewhere with -o"
            raise CvtoolError(f"the run folder cannot be made: {error.strerror}", where=folder, hint=hint) from error
        return run

    def write(self, plan: Plan) -> None:
        """recipe.toml, all or nothing."""
        draft = self.folder / f".{RECIPE}"
        try:
            draft.write_text(plan.to_toml(), encoding="utf-8")
            draft.replace(self.folder / RECIPE)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    @classmethod
    def open(cls, folder: Path) -> tuple[Run, Plan]:
        """A run that was started before."""
        if not (folder / RECIPE).is_file():
            raise UsageError("this is not a run folder: it holds no recipe.toml", where=folder, hint="a run folder looks like runs/0001")
        return cls(folder), Plan.read(folder / RECIPE)

    def tidy(self) -> None:
        """Remove what a killed process left half written."""
        for pattern in (f".{STATE}.*", ".*.tmp"):
            for draft in self.folder.glob(pattern):
                draft.unlink(missing_ok=True)

    def state(self) -> dict[str, Any] | None:
        """What was saved last, or None before the first save."""
        path = self.folder / STATE
        return state.load(path) if path.exists() else None

    def save(self, values: dict[str, Any]) -> None:
        state.save(values | {"settled": self.settled}, self.folder / STATE)

    def compare(self, values: dict[str, Any]) -> None:
        """Refuse a state that was saved under other settings or with other data than `settled`. Raises UsageError."""
        before = values.get("settled", {})
        changed = [key for key in self.settled if key in before and before[key] != self.settled[key]]
        if changed:
            said = ", ".join(f"{key} was {before[key]}, now {self.settled[key]}" for key in changed[:3])
            hint = "set it back, or start a new run with `-c recipe.toml`"
            raise UsageError(f"the run was started otherwise, and cannot go on: {said}", where=self.folder / RECIPE, hint=hint)

    def epoch(self, model: nn.Module, values: dict[str, Any], *, best: bool) -> None:
        """last, and best if it is; the metrics in a checkpoint are those of its epoch."""
        kept = f"the last good checkpoint is kept; make room, then: cvtool train --resume {shlex.quote(str(self.folder))}"
        info = replace(self.info, metrics={key: value for key, value in values.items() if key not in ("kind", "lr")})
        try:
            for name in (LAST, BEST) if best else (LAST,):
                weights.save(model, self.folder / name, info)
            if time.monotonic() - self._drawn > REDRAW:
                curves.save(self.folder)
                self._drawn = time.monotonic()
        except OSError as error:
            raise CvtoolError(f"the checkpoint cannot be saved: {error.strerror or error}", where=error.filename or self.folder, hint=kept) from error
        except CvtoolError as error:  # the writer of tensors has its own errors, disk full among them
            raise CvtoolError(error.what, where=error.where, hint=error.hint or kept) from error

    def finish(self) -> Path:
        """model.safetensors, the best checkpoint, else the last, under the name that people look for; and the curves to their end."""
        source = self.folder / (BEST if (self.folder / BEST).exists() else LAST)
        draft, target = self.folder / f".{MODEL}", self.folder / MODEL
        draft.unlink(missing_ok=True)
        try:
            os.link(source, draft)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, draft)
        draft.replace(target)
        curves.save(self.folder)
        return target
