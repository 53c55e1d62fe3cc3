"""Label maps against the truth: mean intersection over union and the accuracies of pixels, by both conventions for void."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from cvtool import __version__, images
from cvtool.data.formats import _polygons, masks
from cvtool.data.pairing import first, match_categories, match_images, plural
from cvtool.data.sides import Side, image_name
from cvtool.errors import InputError
from cvtool.metrics.mean_iou import IGNORE, MeanIoU
from cvtool.records import choose


def score(truth: Side, found: Side, *, classes: Sequence[str | int] | None = None, per_class: bool = False) -> dict[str, Any]:
    """The report, as `cvtool.tasks.evaluate.evaluate` describes it; a picture that was not answered has all its pixels wrong.

    Raises InputError and UsageError.
    """
    if found.task != "segmentation" and not any(entry.get("segmentation") for entry in found.entries):
        raise InputError("the ground truth has label maps, and here are no masks", where=found.where, hint="cvtool segment gives masks")
    table = truth.categories
    index = {category["id"]: label for label, category in enumerate(table)}
    pairing = match_images(truth, found)
    warnings = list(pairing.warnings)
    if found.failed:
        warnings.append(f"{plural(len(found.failed), 'picture')} could not be read by the segmenter and count as wrong: {found.failed[0]}")
    used = {entry.get("category_id") for entry in found.entries} or {category["id"] for category in found.categories} or set(index)
    known, more = match_categories(table, found.categories, sorted(used - {None}, key=str), where=found.where)
    warnings += more
    answers: dict[int, int] = {position: number for number, position in enumerate(pairing.positions) if position is not None}
    objects: dict[int, list[dict]] = {}
    for owner, entry in zip(found.owners, found.entries, strict=True):
        objects.setdefault(owner, []).append(entry)
    own = masks.table(index, truth.void)
    theirs = np.full(65536, len(table), np.int64)
    for key, target in known.items():
        if isinstance(key, int) and 0 <= key < 65536:
            theirs[key] = index[target]
    chosen = None if classes is None else {index[key] for key in choose(table, classes)}

    metric, silent = MeanIoU(len(table)), 0
    for number, path in enumerate(truth.maps):
        if path is None:
            raise InputError(f"{image_name(truth.images[number])} has no label map, and others have", where=truth.where)
        values = images.labels(path)
        true = own[values]
        if (strange := values[true < 0]).size:
            raise InputError(f"the label {strange.min()} is none of those in classes.txt", where=path, hint="name it there, as 'void' if it is none")
        if chosen is not None:
            true = np.where(np.isin(true, list(chosen)), true, IGNORE)
        answer = answers.get(number)
        silent += answer is None
        if answer is None:
            metric.update(np.full(true.shape, len(table)), true)
        elif found.maps and found.maps[answer] is not None:
            metric.update(_same_size(theirs[images.labels(str(found.maps[answer]))], true, str(found.maps[answer])), true)
        else:
            metric.update(_painted(objects.get(answer, []), true, known, index, image_name(found.images[answer])), true)
    if silent:
        advice = f"; the data set has the splits {', '.join(truth.splits)}: --split takes one" if len(truth.splits) > 1 else ""
        one = "picture has" if silent == 1 else "pictures have"
        warnings.append(f"{silent:,} ground-truth {one} no map among the answers, and all their pixels count as wrong{advice}")
    metrics: dict[str, Any] = metric.compute()
    if not metrics:
        raise InputError("there is nothing to measure: no pixel of these classes", where=truth.where)
    missing = [category["name"] for category, row in zip(table, metric.per_class(), strict=True) if row["IoU"] is None]
    if missing and chosen is None:
        warnings.append(f"nothing to measure for {first(missing)}: neither there nor found")
    void = int(metric.confusion[-1].sum())
    report: dict[str, Any] = {"task": "segmentation", "metrics": metrics}
    if per_class:
        rows = {category["name"]: row for category, row in zip(table, metric.per_class(), strict=True)}
        metrics |= {f"per_class.{name}.{key}": value for name, row in rows.items() for key, value in row.items()}
        report["per_class"] = rows
    report["confusion"] = {
        "categories": [c["name"] for c in table],
        "matrix": metric.confusion[:-1, :-1].tolist(),
        "none": metric.confusion[:-1, -1].tolist(),
    }
    matched = len(answers)
    counts = {"images": len(truth.images), "images_matched": matched, "unanswered": silent, "categories": len(table), "matched_by": pairing.how}
    counts |= {"pixels": int(metric.confusion[:-1].sum()), "void_pixels": void}
    account = (
        f"matched {matched:,} of {plural(len(found.images), 'segmented picture')} by {pairing.how}; {void:,} void pixels are left out of all "
        f"figures but mIoU_void_counted"
    )
    return report | {"params": {"void": "ignored"}, "counts": counts, "matching": account, "warnings": warnings, "cvtool": __version__}


def _same_size(found: np.ndarray, true: np.ndarray, where: str) -> np.ndarray:
    if found.shape != true.shape:
        raise InputError(f"the map is {found.shape[1]} x {found.shape[0]}, the truth {true.shape[1]} x {true.shape[0]}", where=where)
    return found


def _painted(entries: list[dict], true: np.ndarray, known: dict[Any, Any], index: dict[Any, int], name: str) -> np.ndarray:
    """Masks as one map: better scores cover worse ones, else later ones earlier ones."""
    out = np.full(true.shape, len(index), np.int64)
    for entry in sorted(entries, key=lambda entry: entry.get("score") or 0):
        if entry.get("segmentation") is None:
            raise InputError("an object has a box and no mask", where=os.fspath(name))
        mask = _polygons.mask(entry["segmentation"], true.shape[1], true.shape[0]).astype(bool)
        out[mask] = index.get(known.get(entry.get("category_id")), len(index))
    return out
