"""Depth maps against true ones: relative error, RMSE, RMSE of logarithms, and the share within a factor of 1.25."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.data import fields
from cvtool.errors import InputError, UsageError, did_you_mean
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._files import pairs
from cvtool.tasks.evaluation._means import lower_of, means, single, weighted
from cvtool.tasks.evaluation._measured import Measured

OPTIONS = {
    "gt_scale": ("What a true PNG's values are divided by.", 1000.0),
    "dt_scale": ("What a found PNG's values are divided by.", 1000.0),
    "min_depth": ("True depths at or below this do not count; found ones below are raised to it.", 0.001),
    "max_depth": ("True depths above this do not count; found ones above are cut to it (0: no limit).", 0.0),
    "align": ("How a found map is scaled first: none, median, scale or affine (least squares).", "none"),
}
FITS = ("folder", "pictures", ".npy")
DEFAULT = ("abs-rel", "rmse", "rmse-log", "delta")
WAYS = ("none", "median", "scale", "affine")


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """Folders of depth maps, single ones, or JSON lines with `depth`. Figures are those of a picture's valid pixels, then means over pictures.

    A metric of this kind offers `compute(true, found, *, ...) -> dict[str, float]` of the depths N and N. Raises InputError and UsageError.
    """
    chosen = {key: options.extra.get(key, default) for key, (_, default) in OPTIONS.items()}
    if chosen["align"] not in WAYS:
        raise UsageError(f"--align: no such way '{chosen['align']}'", hint=did_you_mean(str(chosen["align"]), WAYS) or f"ways: {', '.join(WAYS)}")
    for key in ("gt_scale", "dt_scale", "min_depth"):
        if not chosen[key] > 0:
            raise UsageError(f"--{key.replace('_', '-')} is above 0, not {chosen[key]:g}")
    found = pairs(gt, dt, options, suffixes=fields.DEPTHS, key="depth", what="depth map", many="depth maps")
    calls = metrics or [Call(name) for name in DEFAULT]
    functions = [(registered.find(call.name).load().compute, call) for call in calls]
    rows, names, pixels, kept, empty = [], [], 0, [], []
    for number, (name, mine, theirs) in enumerate(found):
        true, made = fields.depth(mine, scale=chosen["gt_scale"]), fields.depth(theirs, scale=chosen["dt_scale"])
        if true.shape != made.shape:
            raise InputError(f"the map is {made.shape[1]} x {made.shape[0]}, the truth {true.shape[1]} x {true.shape[0]}", where=theirs)
        valid = np.isfinite(true) & (true > chosen["min_depth"])
        if chosen["max_depth"] > 0:
            valid &= true <= chosen["max_depth"]
        if not valid.any():
            empty.append(name)
            continue
        a, b = true[valid], made[valid]
        if not np.isfinite(b).all():
            raise InputError(f"{np.count_nonzero(~np.isfinite(b)):,} depths are no numbers where the truth is known", where=theirs)
        b = np.clip(aligned(a, b, str(chosen["align"])), chosen["min_depth"], chosen["max_depth"] or None)
        row: dict[str, float] = {}
        for compute, call in functions:
            row |= compute(a, b, **arguments(call, compute))
        rows.append(row)
        names.append(name)
        kept.append(number)
        pixels += len(a)
    if not rows:
        raise InputError(
            "there is nothing to measure: no true depth is valid", where=gt, hint="--gt-scale, --min-depth and --max-depth say which are"
        )
    warnings = found.warnings
    if empty:
        warnings.append(f"{len(empty):,} of the depth maps have no valid depth and are not measured: {', '.join(empty[:5])}")
    values = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    many = weighted(values)
    return Measured(
        task="depth", metrics=dict(means(values)), units=names, statistic=single(many), many=many, per_unit=values,
        attributes=[found.attributes[number] for number in kept] if found.attributes else [], params=chosen, counts=found.counts | {"pixels": pixels},
        matching=found.account, warnings=warnings, lower=lower_of(calls, list(values)), primary=next(iter(values)),
    )  # fmt: skip


def aligned(true: np.ndarray, found: np.ndarray, way: str) -> np.ndarray:
    """Depths N whose scale (and shift) are unknown, moved onto the true ones N: by the ratio of medians, or by least squares."""
    if way == "median":
        middle = float(np.median(found))
        return found * (float(np.median(true)) / middle) if middle else found
    if way == "scale":
        square = float(found @ found)
        return found * (float(found @ true) / square) if square else found
    if way == "affine":
        (scale, shift), *_ = np.linalg.lstsq(np.stack([found, np.ones_like(found)], 1), true, rcond=None)
        return found * scale + shift
    return found
