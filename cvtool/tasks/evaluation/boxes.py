"""Boxes against boxes, row beside row: intersection over union in either convention and any format."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.errors import InputError
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._means import asked_of, means, single, weighted
from cvtool.tasks.evaluation._measured import Measured
from cvtool.tasks.evaluation._numbers import matched, read

OPTIONS: dict[str, str] = {}
FITS = (".json", ".csv", ".npy")


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """Tables of four numbers a row (`_numbers.read`). Raises InputError and UsageError."""
    calls = metrics or [Call("iou")]
    true, found, names, how, warnings = matched(read(gt, options.stdin), read(dt, options.stdin))
    if true.shape[1] != 4:
        raise InputError(f"a box is four numbers, not {true.shape[1]}", where=gt)
    values: dict[str, np.ndarray] = {}
    params: dict[str, Any] = {}
    for call in calls:
        compute = registered.find(call.name).load().compute
        given = arguments(call, compute)
        with asked_of(call):
            values |= compute(true, found, **given)
        params |= given
    many = weighted(values)
    return Measured(
        task="boxes", metrics=dict(means(values)), units=names, statistic=single(many), many=many, per_unit=values, params=params,
        counts={"boxes": len(names)}, matching=how, warnings=warnings, primary=next(iter(values)),
    )  # fmt: skip
