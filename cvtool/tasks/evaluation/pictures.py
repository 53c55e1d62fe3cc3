"""Pictures against true pictures of the same names: PSNR, SSIM and perceptual distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvtool import images
from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.errors import InputError, ModelError
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._files import pairs
from cvtool.tasks.evaluation._means import infinite, lower_of, means, single, weighted
from cvtool.tasks.evaluation._measured import Measured
from cvtool.tasks.evaluation._page import Page

OPTIONS = {"crop": ("The true picture is cut to the size of the other, from its upper left corner.", False)}
FITS = ("folder", "pictures", ".png", ".jpg")
DEFAULT = ("psnr", "ssim", "gmsd")
LEARNED = "lpips"  # measured unasked too, where its weights are at hand


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """Folders of pictures, single ones, or JSON lines. Raises InputError and UsageError.

    A metric of this kind offers `compute(true, found, *, ...) -> dict[str, float]` of two H W 3 uint8 pictures of one size.
    """
    found = pairs(gt, dt, options, suffixes=images.SUFFIXES, key=None, what="picture", many="pictures")
    calls, notes = (metrics, []) if metrics else _default()
    functions = []
    params: dict[str, Any] = {"crop": bool(options.extra.get("crop"))}
    for call in calls:
        compute = registered.find(call.name).load().compute
        given = arguments(call, compute)
        functions.append((compute, given))
        params |= {f"{call.name}.{key}": value for key, value in given.items()}
    rows: list[dict[str, float]] = []
    for name, mine, theirs in found:
        true, made = _same_size(images.decode(mine), images.decode(theirs), theirs, params["crop"])
        row: dict[str, float] = {}
        for compute, given in functions:
            try:
                row |= compute(true, made, **given)
            except InputError as error:
                raise InputError(error.what, where=error.where or name, hint=error.hint) from error
        rows.append(row)
    values = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    many = weighted(values)
    return Measured(
        task="pictures", metrics=dict(means(values)), units=found.names, statistic=single(many), many=many, per_unit=values,
        attributes=found.attributes, params=params, counts=found.counts, matching=found.account,
        warnings=found.warnings + notes + infinite(values, found.names), lower=lower_of(calls, list(values)), primary=next(iter(values)),
        page=Page(unit=lambda number: {"pair": {"truth": found.gt[number], "found": found.dt[number]}}),
    )  # fmt: skip


def _default() -> tuple[list[Call], list[str]]:
    """The plain metrics, with the learned distance where nothing needs to be downloaded for it; and a line where it is missing."""
    calls = [Call(name) for name in DEFAULT]
    module = registered.find(LEARNED).load()
    if not module.at_hand():
        return calls, [f"{LEARNED.upper()} is not measured: its weights are not on this machine (--metric {LEARNED} gets them)"]
    try:
        module.make(offline=True)
    except ModelError as error:
        return calls, [f"{LEARNED.upper()} is not measured: {error.what}"]
    return [*calls, Call(LEARNED)], []


def _same_size(true: np.ndarray, made: np.ndarray, where: str, crop: bool) -> tuple[np.ndarray, np.ndarray]:
    height, width = made.shape[:2]
    if crop and height <= true.shape[0] and width <= true.shape[1]:
        true = true[:height, :width]
    if true.shape != made.shape:
        hint = "--crop cuts the true picture to the other's size" if height <= true.shape[0] and width <= true.shape[1] and not crop else None
        raise InputError(f"the picture is {width} x {height}, the true one {true.shape[1]} x {true.shape[0]}", where=where, hint=hint)
    return true, made
