"""Distributions against distributions, shares of K outcomes a row: entropy, KL, JS and earth mover's distance."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.errors import InputError
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._means import asked_of, infinite, lower_of, means, single, weighted
from cvtool.tasks.evaluation._measured import Measured
from cvtool.tasks.evaluation._numbers import Numbers, matched, read

OPTIONS = {"normalise": ("Rows are counts: each becomes shares of its sum.", False)}
FITS = (".json", ".csv", ".npy")
SLACK = 1e-6


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """Tables of shares (`_numbers.read`), a distribution a row. Raises InputError and UsageError."""
    calls = metrics or [Call("kl"), Call("js"), Call("emd"), Call("entropy")]
    counts = bool(options.extra.get("normalise"))
    true, found, names, how, warnings = matched(_shares(read(gt, options.stdin), counts), _shares(read(dt, options.stdin), counts))
    values: dict[str, np.ndarray] = {}
    params: dict[str, Any] = {"normalise": counts, "outcomes": true.shape[1]}
    for call in calls:
        compute = registered.find(call.name).load().compute
        given = arguments(call, compute)
        with asked_of(call):
            values |= compute(true, found, **given)
        params |= {f"{call.name}.{key}": value for key, value in given.items()}
    many = weighted(values)
    return Measured(
        task="distributions", metrics=dict(means(values)), units=names, statistic=single(many), many=many, per_unit=values, params=params,
        counts={"distributions": len(names)}, matching=how, warnings=warnings + infinite(values, names),
        lower=lower_of(calls, list(values)), primary=next(iter(values)),
    )  # fmt: skip


def _shares(table: Numbers, counts: bool) -> Numbers:
    """Rows that sum to 1. Raises InputError for negative shares and for other sums."""
    values = table.values
    sums = values.sum(1)
    if (bad := np.flatnonzero((values < 0).any(1))).size:
        raise InputError(f"row {table.labels()[bad[0]]} holds a negative share", where=table.where)
    if counts:
        if (bad := np.flatnonzero(sums <= 0)).size:
            raise InputError(f"row {table.labels()[bad[0]]} counts nothing", where=table.where)
        return Numbers(values / sums[:, None], table.names, table.columns, table.where)
    if (bad := np.flatnonzero(np.abs(sums - 1) > SLACK)).size:
        hint = "--normalise makes shares of counts"
        raise InputError(f"row {table.labels()[bad[0]]} sums to {sums[bad[0]]:g}, and shares sum to 1", where=table.where, hint=hint)
    return table
