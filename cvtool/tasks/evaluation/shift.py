"""Answers to clean, cue-marked and cue-swapped pictures against the classes of these: does a model rely on the cue?"""

from __future__ import annotations

from typing import Any

import numpy as np

from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.data.sides import Side, read_truth
from cvtool.errors import InputError, UsageError
from cvtool.metrics.shift_robustness import SETS
from cvtool.tasks.evaluation import Options, classes
from cvtool.tasks.evaluation._means import lower_of
from cvtool.tasks.evaluation._measured import Measured

OPTIONS = {
    "split": "",
    "data_format": "",
    "cue": "Answers to the same pictures with their own class's cue.",
    "swapped": "Answers to the same pictures with another class's cue.",
}
FITS = ("folder", ".json", ".jsonl", ".csv")


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """gt: the pictures' classes. dt: a classifier's answers to them as they are; --cue and --swapped: to the same pictures, marked.

    Raises InputError and UsageError, also where neither of the two is given.
    """
    call = (metrics or [Call("shift-robustness")])[0]
    if call.args or call.kwargs:
        raise UsageError(f"--metric {call.name} takes no arguments, not {call}")
    sources = {"clean": dt} | {name: str(options.extra[name]) for name in SETS[1:] if options.extra.get(name)}
    if len(sources) == 1:
        raise UsageError(f"{call.name} compares answers to clean pictures with those to marked ones", hint="--cue FILE, --swapped FILE, or both")
    if list(map(str, sources.values())).count("-") + (str(gt) == "-") > 1:
        raise UsageError("stdin can be read only once")
    truth = gt if isinstance(gt, Side) else read_truth(gt, split=options.split, data_format=options.data_format, stdin=options.stdin)
    shared = Options(stdin=options.stdin)
    sides = {name: classes.score(truth, source, metrics=[Call("accuracy")], options=shared) for name, source in sources.items()}
    first = sides["clean"]
    for name, side in sides.items():
        if side.units != first.units:
            raise InputError(f"the pictures of the {name} set are others than the clean ones", where=sources[name])
    right = {name: np.asarray(side.per_unit["correct"], float) for name, side in sides.items()}
    compute = registered.find(call.name).load().compute

    def statistic(weights: np.ndarray) -> dict[str, float]:
        return compute(right, np.asarray(weights, float))

    figures = compute(right)
    return Measured(
        task="shift", metrics=dict(figures), units=first.units, statistic=statistic, per_unit={f"correct_{name}": one for name, one in right.items()},
        attributes=first.attributes, params={"sets": list(sources)}, counts=first.counts,
        matching="; ".join(f"{name}: {side.matching}" for name, side in sides.items()),
        warnings=[f"{name}: {line}" for name, side in sides.items() for line in side.warnings],
        lower=lower_of([call], list(figures)), primary="cue_reliance" if "cue_reliance" in figures else next(iter(figures)),
    )  # fmt: skip
