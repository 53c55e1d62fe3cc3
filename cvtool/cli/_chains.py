"""Trainings of several runs on the command line: synthetic pictures before real ones, new data for an old model, a search among architectures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cvtool.cli import _options
from cvtool.errors import UsageError

_option = _options.option

Synthetic = Annotated[str | None, _option("pretrain-synthetic", metavar="PATH", help="Learn from this data set first, then from --finetune.")]
FineTune = Annotated[str | None, typer.Option("--finetune", metavar="PATH", help="--data, after --pretrain-synthetic; its classes may be others.")]
Update = Annotated[
    str | None, typer.Option("--update", metavar="HOW", help="New --data for the model --base: new, old+new, ensemble-new or ensemble-all.")
]
Base = Annotated[str | None, typer.Option("--base", metavar="REF", help="The model that --update brings up to date.")]
DataOld = Annotated[str | None, _option("data-old", metavar="PATH", help="A data set that is joined to --data, class by class, by name.")]
SearchSpace = Annotated[
    str | None, typer.Option("--search", metavar="SPACE", help="Try architectures, such as 'depth=2|3;width=8|16'; prints the best one's run.")
]
Trials = Annotated[int | None, typer.Option("--trials", min=1, metavar="N", help="Architectures that --search trains at most (20).")]

EPILOG = (
    "Weights of other data, by how much data there is and how similar it is: "
    "little and similar: a linear model on top (-m linear --features REF, or --freeze all-but-head); "
    "little and different: on features of an earlier stage (-m linear --features REF --probe-stage layer2); "
    "much and similar: let a few stages learn (--unfreeze 2 --lr-scale 0.1); "
    "much and different: more of them, or all (--unfreeze 4, or neither option)."
)


def check(values: dict[str, Any]) -> None:
    """Options of this page that mean nothing without others. Raises UsageError."""
    pairs = (("finetune", "pretrain_synthetic"), ("base", "update"), ("trials", "search"))
    for name, other in pairs:
        if values.get(name) is not None and values.get(other) is None:
            raise UsageError(f"--{name} has no effect without --{other.replace('_', '-')}", hint=f"leave --{name} out")
    for name, others in (
        ("update", ("search", "pretrain_synthetic", "find_lr", "resume")),
        ("search", ("find_lr", "dry_run", "resume", "pretrain_synthetic")),
    ):
        for other in others:
            if values.get(name) is not None and values.get(other):
                raise UsageError(f"--{name} and --{other.replace('_', '-')} exclude each other", hint="leave one out")
    if values.get("finetune") is not None and values.get("data") is not None:
        raise UsageError("--finetune and --data are given both", hint="they mean the same; leave one out")
    if values.get("update") is not None and values.get("model") is not None:
        raise UsageError("--model has no effect with --update, which trains what --base is", hint="leave it out")


def search(model: str, data: str, space: str, trials: int | None, *, layers: Sequence[dict[str, Any]], output: Path, **options: Any) -> Path:
    """The run folder of the best architecture."""
    from cvtool.tasks import search as task

    return task.search(model, data, task.space_of(space), trials=trials or 20, output=output, layers=layers, **options)[0]
