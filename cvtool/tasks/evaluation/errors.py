"""Errors of many models of one design space against those of another: their empirical distributions."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.errors import InputError
from cvtool.metrics import error_edf
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._means import asked_of, lower_of
from cvtool.tasks.evaluation._measured import Measured
from cvtool.tasks.evaluation._numbers import Numbers, read

OPTIONS: dict[str, str] = {}
FITS = (".json", ".csv")


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """Two files of errors in [0, 1], one a model: a list, a column, or rows with a column `error`. Raises InputError and UsageError.

    The report's `curves` hold both distributions, as stairs of (error, share below it).
    """
    call = (metrics or [Call("error-edf")])[0]
    given = arguments(call, _drawn)
    (_, true), (others, found) = (_errors(read(side, options.stdin)) for side in (gt, dt))
    with asked_of(call):
        mine, theirs = (error_edf.chosen(one, given["n"], given["seed"]) for one in (true, found))
    true, found = true[mine], found[theirs]

    def statistic(weights: np.ndarray) -> dict[str, float]:
        return error_edf.compute(true, found, np.asarray(weights, float))

    figures = error_edf.compute(true, found)
    own = error_edf.compute(true, true)
    warnings = [
        f"{side} has {len(one):,} models, fewer than the {given['n']} samples that the comparison takes (n={given['n']})"
        for side, one in (("--gt", true), ("--dt", found))
        if len(one) < given["n"]
    ]
    curves = {
        side: dict(zip(("error", "share"), map(np.ndarray.tolist, error_edf.curve(one)), strict=True)) for side, one in (("gt", true), ("dt", found))
    }
    return Measured(
        task="errors", metrics=dict(figures), units=[others[row] for row in theirs], statistic=statistic, per_unit={"error": found},
        params=given, counts={"gt": len(true), "dt": len(found)}, matching=f"{len(found):,} models against {len(true):,}", warnings=warnings,
        extra={"ground_truth_space": own, "curves": curves}, lower=lower_of([call], registered.find(call.name).lower), primary="edf_area",
    )  # fmt: skip


def _drawn(*, n: int = 500, seed: int = 0) -> None:
    """n: models drawn of each space. seed: of the drawing."""


def _errors(table: Numbers) -> tuple[list[str], np.ndarray]:
    """(names, errors N). Raises InputError for several columns of which none is `error`, and for values outside [0, 1]."""
    values, names = table.values, table.names
    if values.shape[1] > 1 and table.columns and "error" in table.columns:
        values = values[:, [table.columns.index("error")]]
    elif len(values) == 1 and names is None:
        values = values.T
    if values.shape[1] != 1:
        raise InputError(f"rows of {values.shape[1]} numbers, and an error is one", where=table.where, hint="a list of errors, or a column 'error'")
    errors = values[:, 0]
    if ((errors < 0) | (errors > 1)).any():
        raise InputError("errors lie in [0, 1]", where=table.where, hint="0.253 for 25.3 %")
    return names or [str(number) for number in range(1, len(errors) + 1)], errors
