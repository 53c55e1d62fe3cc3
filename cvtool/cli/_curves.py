"""`cvtool visualize RUN...`: the curves of training runs in one picture, a colour a run."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from cvtool.errors import InputError, UsageError

Smooth = Annotated[
    str | None,
    typer.Option("--smooth", metavar="NAME:N", help="Curves of runs, averaged: ema:0.9 (0.9 of the old average), window:20, or both with a comma."),
]
_ALSO = {"inputs", "output", "overwrite", "smooth", "config", "quiet", "verbose"}


def are_runs(given: list[str]) -> bool:
    """Whether the inputs are run folders. Raises UsageError where only some are."""
    runs = [Path(text, "recipe.toml").is_file() and Path(text, "log.jsonl").is_file() for text in given]
    if any(runs) and not all(runs):
        raise UsageError(f"{given[runs.index(True)]} is a run and {given[runs.index(False)]} is none", hint="curves are drawn of runs alone")
    return bool(runs) and all(runs)


def draw(given: list[str], smooth: str | None, typed: Collection[str]) -> Any:
    """The picture. Raises UsageError for options that have no effect on it, InputError for a log without a line."""
    for option in typed:
        if option not in _ALSO:
            raise UsageError(f"--{option.replace('_', '-')} has no effect on the curves of runs", hint="they take -o, --overwrite and --smooth")
    from cvtool.render import curves

    logs = {text: curves.read(Path(text, "log.jsonl")) for text in given}
    if empty := next((text for text, lines in logs.items() if not curves.losses(lines)), None):
        raise InputError("this run has no losses to draw yet", where=Path(empty, "log.jsonl"))
    return curves.compare(logs, smooth or "")
