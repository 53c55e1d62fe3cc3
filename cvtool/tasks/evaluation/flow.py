"""Optical flow against true flow: end-point error and KITTI's outliers, over all pixels whose motion is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.data import fields
from cvtool.errors import InputError
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._files import pairs
from cvtool.tasks.evaluation._means import lower_of, single
from cvtool.tasks.evaluation._measured import Measured

OPTIONS: dict[str, str] = {}
FITS = ("folder", "pictures", ".flo")
DEFAULT = ("epe", "fl")


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """Folders of motion fields, single ones, or JSON lines with `flow`. Figures are over the pixels of all pictures together, as KITTI counts.

    A metric of this kind offers `sums(true, found, *, ...) -> dict[str, float]` of the motions N 2 and N 2. Raises InputError and UsageError.
    """
    found = pairs(gt, dt, options, suffixes=fields.FLOWS, key="flow", what="motion field", many="motion fields")
    calls = metrics or [Call(name) for name in DEFAULT]
    functions = [(registered.find(call.name).load().sums, call) for call in calls]
    rows: list[dict[str, float]] = []
    pixels: list[int] = []
    for _, mine, theirs in found:
        (true, known), (made, there) = fields.flow(mine), fields.flow(theirs)
        if true.shape != made.shape:
            raise InputError(f"the field is {made.shape[1]} x {made.shape[0]}, the truth {true.shape[1]} x {true.shape[0]}", where=theirs)
        if (lost := known & ~there).any():
            raise InputError(f"no motion for {np.count_nonzero(lost):,} of {np.count_nonzero(known):,} pixels whose truth is known", where=theirs)
        row: dict[str, float] = {}
        for sums, call in functions:
            row |= sums(true[known], made[known], **arguments(call, sums))
        rows.append(row)
        pixels.append(int(known.sum()))
    counts = np.array(pixels, float)
    if not counts.sum():
        raise InputError("there is nothing to measure: no true motion is known", where=gt)
    totals = {key: np.array([row[key] for row in rows]) for key in rows[0]}

    def many(weights: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return {key: weights @ one / (weights @ counts) for key, one in totals.items()}

    statistic = single(many)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = {key: one / counts for key, one in totals.items()}
    return Measured(
        task="flow", metrics=dict(statistic(np.ones(len(rows)))), units=found.names, statistic=statistic, many=many, per_unit=each,
        attributes=found.attributes, counts=found.counts | {"pixels": int(counts.sum())}, matching=found.account, warnings=found.warnings,
        lower=lower_of(calls, list(totals)), primary=next(iter(totals)),
    )  # fmt: skip
