"""Training of what is not trained by gradient: one call of the model's `fit`, validated and saved like an epoch."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvtool.data.dataset import Dataset, Sample
from cvtool.errors import InputError, UsageError
from cvtool.tasks._sets import kind_of
from cvtool.train.log import Log
from cvtool.train.run import LOG, Run
from cvtool.train.validate import FIGURES, Validation

if TYPE_CHECKING:
    from cvtool.tasks._job import Job

KEPT = ("batch_size", "cache", "img_size", "precision", "seed", "strict", "balance")  # settings that mean something without a loop


def is_fitted(model: Any) -> bool:
    return hasattr(model, "fit") and not hasattr(model, "losses")


def check(asked: frozenset[str], settings: Any, name: str) -> None:
    """Refuse settings of the loop. Raises UsageError."""
    for key in sorted(asked):
        if key in settings and key not in KEPT:
            raise UsageError(f"{key} has no effect on {name}: it is fitted in one go, not by gradient", hint="leave it out")


def fit(job: Job, run: Run) -> Path:
    """Fit job.model on the training pictures, validate it, and keep it in `run`."""
    model, sets = job.model, job.sets
    started = time.perf_counter()
    takes = inspect.signature(model.fit).parameters  # type: ignore[arg-type]
    model.fit(_samples(job.loader.dataset, strict=job.recipe["strict"]), **({"seed": job.recipe["seed"]} if "seed" in takes else {}))  # type: ignore[operator]
    seconds = time.perf_counter() - started
    values: dict[str, Any] = {"kind": "epoch", "epoch": 1, "iteration": 1, "loss": 0.0, "seconds": round(seconds, 2)}
    values["images_per_second"] = round(len(sets.train) / seconds, 2)
    if sets.val:
        values |= Validation(job.val_loader, device=job.device, kind=kind_of(model), precision=job.recipe["precision"])(model)
    stages = _stages(job)
    values |= {f"{stage}_{name}": value for stage, figures in stages.items() for name, value in figures.items()}
    log = Log(run.folder / LOG)
    log.write(**values)
    log.close()
    run.info = job.info()
    run.epoch(model, values, best=bool(sets.val))
    run.finish()
    told = ", ".join(f"{name.removeprefix('val_')} {values[name]:.4f}" for name in FIGURES if name in values)
    job.reporter.note(f"fitted in {seconds:.1f} s" + (f": {told}" if told else ""))
    for stage, figures in stages.items():
        job.reporter.note(f"{stage}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    return run.folder


def _stages(job: Job) -> dict[str, dict[str, float]]:
    """What a model of several stages tells of each: of the pictures to validate on, where there are any, else of those that it has learned from."""
    if not hasattr(job.model, "figures"):
        return {}
    loader = job.val_loader if job.sets.val else job.loader
    return job.model.figures(_samples(loader.dataset, strict=False))  # type: ignore[operator]


def _samples(dataset: Dataset, *, strict: bool) -> Iterator[Sample]:
    """All that can be read."""
    for index in range(len(dataset)):
        try:
            yield dataset[index]
        except InputError:
            if strict:
                raise
