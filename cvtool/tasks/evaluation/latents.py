"""Latents of a generator against attributes of its pictures: linear separability."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.errors import InputError
from cvtool.metrics.separability import SAMPLES, total
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._means import asked_of, lower_of
from cvtool.tasks.evaluation._measured import Measured
from cvtool.tasks.evaluation._numbers import read

OPTIONS: dict[str, str] = {}
FITS = (".npy", ".csv", ".npz")


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """gt: the attributes' probabilities N A, by classifiers of the pictures; dt: the latents N D (z or w) of which these were made, row by row.

    An attribute's planes stay as they are found on the samples; only what is counted is weighted. Raises InputError and UsageError.
    """
    call = (metrics or [Call("separability")])[0]
    module = registered.find(call.name).load()
    given = arguments(call, module.attribute)
    answers, latents = read(gt, options.stdin, array="probabilities"), read(dt, options.stdin, array="latents")
    if len(answers.values) != len(latents.values):
        raise InputError(f"{len(latents.values):,} latents, and answers for {len(answers.values):,} samples", where=dt)
    if ((answers.values < 0) | (answers.values > 1)).any():
        raise InputError("probabilities lie in [0, 1]", where=gt, hint="are --gt (attributes) and --dt (latents) swapped?")
    names = answers.columns or [f"attribute{number}" for number in range(1, answers.values.shape[1] + 1)]
    attributes = []
    for name, column in zip(names, answers.values.T, strict=True):
        with asked_of(call, f"{gt}: {name}"):
            attributes.append(module.attribute(latents.values, column, **given))

    def statistic(weights: np.ndarray) -> dict[str, float]:
        return total(np.array([one.entropy(weights) for one in attributes]))

    figures = statistic(np.ones(len(latents.values)))
    count = len(latents.values)
    warnings = [f"{count:,} samples; the paper's figures are of {SAMPLES:,}, and fewer separate more easily"] if count < SAMPLES else []
    return Measured(
        task="latents", metrics=dict(figures), units=answers.labels(), statistic=statistic, params=given | {"samples": count},
        per_class={name: {"conditional_entropy": one.entropy(), "samples": len(one.rows)} for name, one in zip(names, attributes, strict=True)},
        counts={"samples": count, "kept": len(attributes[0].rows), "attributes": len(attributes), "dimensions": latents.values.shape[1]},
        matching=f"matched {count:,} rows by their place", warnings=warnings, lower=lower_of([call], list(figures)), primary="separability",
    )  # fmt: skip
