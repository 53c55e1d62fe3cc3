"""Instances of one class: maps that number the objects (16-bit PNG, 0 is background) or masks; their precision over overlaps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from cvtool import images
from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.data.formats import instances as format_
from cvtool.data.pairing import match_images, plural
from cvtool.data.sides import Side, image_name, read_found, read_truth
from cvtool.errors import InputError, UsageError
from cvtool.metrics._overlaps import code_of
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._measured import Lazy, Measured

OPTIONS = {
    "split": "",
    "data_format": "",
    "min_score": ("Instances of a lower score are not there (not for AP)", 0.0),
}
FITS = ("folder", "pictures")


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """Instance maps or masks on either side; classes are not told apart. Raises InputError and UsageError.

    A side is a data set with instance maps, a folder of such maps, or annotations with masks (COCO, JSON lines, "-").
    """
    calls = metrics or [Call("instance-ap")]
    if len(calls) > 1:
        raise UsageError(f"--metric {calls[1].name}: one metric of instances at a time")
    module = registered.find(calls[0].name).load()
    arguments(calls[0], lambda: None)
    if isinstance(gt, Side):
        truth = gt
    elif (folder := _maps(gt)) is not None and options.split is None and options.data_format is None:
        truth = folder
    else:
        truth = read_truth(gt, split=options.split, data_format=options.data_format, stdin=options.stdin)
    if (found := _maps(dt)) is None:
        found = read_found(dt, stdin=options.stdin)
    if not any(truth.maps) and not truth.entries:
        raise InputError("the ground truth has no objects with masks", where=truth.where)
    if not any(found.maps) and not found.entries and not found.images:
        raise InputError("there are no instance maps and no masks", where=found.where)
    pairing = match_images(truth, found)
    warnings = list(pairing.warnings)
    answers = {position: number for number, position in enumerate(pairing.positions) if position is not None}
    silent = len(truth.images) - len(answers)
    if silent:
        advice = f"; the data set has the splits {', '.join(truth.splits)}: --split takes one" if len(truth.splits) > 1 else ""
        warnings.append(f"{plural(silent, 'ground-truth picture')} without an answer, with all objects counted as missed{advice}")
    scored = bool(found.entries) and all(isinstance(entry.get("score"), (int, float)) for entry in found.entries)
    least = options.extra.get("min_score") or 0.0
    if least and not scored:
        raise UsageError("--min-score has no effect: the instances found have no scores")
    overlaps, scores, sizes = _overlaps(truth, found, answers)
    counted = np.stack([module.counts(each[own >= least] if scored else each) for each, own in zip(overlaps, scores, strict=True)])
    ranked = module.ranking(overlaps, scores) if scored else None

    def statistic(weights: np.ndarray) -> dict[str, float]:
        values = module.figures(counted, weights)
        if ranked is not None:
            values |= {key: float(row[0]) for key, row in module.average(ranked, np.asarray(weights)[None]).items()}
        return values

    def per_unit() -> dict[str, np.ndarray]:
        each = module.precisions(counted)
        return {"mean_precision": each.mean(1), "precision_50": each[:, 0], "precision_75": each[:, module.T // 2]}

    objects, seen = (int(sum(column)) for column in zip(*sizes, strict=True))
    if not scored:
        warnings.append("the instances found have no scores: AP is not measured")
    return Measured(
        task="instances",
        metrics=dict(statistic(np.ones(len(counted)))),
        units=[image_name(image) for image in truth.images],
        statistic=statistic,
        per_unit=Lazy(per_unit),
        attributes=truth.given,
        params={"iou_thresholds": [round(float(t), 2) for t in module.THRESHOLDS]} | ({"min_score": least} if scored else {}),
        counts={"images": len(counted), "images_matched": len(answers), "annotations": objects, "detections": seen, "matched_by": pairing.how},
        matching=f"{pairing.account}; {plural(seen, 'instance')} against {plural(objects, 'object')}",
        warnings=warnings,
        primary="mean_precision",
    )


def _maps(source: Any) -> Side | None:
    """A folder of PNGs and nothing else (a table of classes aside), each the map of the picture of its name; None for anything else."""
    if isinstance(source, Side) or os.fspath(source) == "-" or not (path := Path(source)).is_dir():
        return None
    names = sorted(entry.name for entry in os.scandir(path) if not entry.name.startswith("."))
    maps = [name for name in names if name.lower().endswith(".png")]
    if not maps or any(name not in maps and not name.lower().endswith(".txt") for name in names):
        return None
    side = Side(str(path), "records")
    side.images = [{"file_name": str(path / name)} for name in maps]
    side.given = [dict(image) for image in side.images]
    side.maps = [str(path / name) for name in maps]
    return side


def _overlaps(truth: Side, found: Side, answers: dict[int, int]) -> tuple[list[np.ndarray], list[np.ndarray], list[tuple[int, int]]]:
    """Of each true picture: found true overlaps, the scores of what was found, and how many (true, found) there are."""
    from pycocotools import mask as coco

    mine, theirs = _by_picture(truth), _by_picture(found)
    overlaps, scores, sizes = [], [], []
    for number, image in enumerate(truth.images):
        true, size = _codes(truth, number, mine.get(number, []), image)
        answer = answers.get(number)
        entries = [] if answer is None else theirs.get(answer, [])
        seen, other = ([], size) if answer is None else _codes(found, answer, entries, image)
        if size is not None and other is not None and size != other:
            what = f"the map of {image_name(image)} is {other[1]} x {other[0]}, the truth {size[1]} x {size[0]}"
            raise InputError(what, where=found.where)
        overlaps.append(np.asarray(coco.iou(seen, true, [0] * len(true))) if seen and true else np.zeros((len(seen), len(true))))
        scores.append(np.array([entry.get("score", np.nan) for entry in entries], float) if entries else np.full(len(seen), np.nan))
        sizes.append((len(true), len(seen)))
    return overlaps, scores, sizes


def _by_picture(side: Side) -> dict[int, list[dict]]:
    rows: dict[int, list[dict]] = {}
    for owner, entry in zip(side.owners, side.entries, strict=True):
        if not entry.get("iscrowd"):
            rows.setdefault(owner, []).append(entry)
    return rows


def _codes(side: Side, number: int, entries: list[dict], image: dict) -> tuple[list[dict], tuple[int, int] | None]:
    """(run-length codes of a picture's instances, its H W where there are any)."""
    if side.maps and side.maps[number] is not None:
        values = images.labels(str(side.maps[number]))
        parts = list(format_.objects(values))
        return [code_of(part["segmentation"], {}) for part in parts], values.shape[:2]
    codes = []
    for entry in entries:
        if not entry.get("segmentation"):
            raise InputError(f"an object of {image_name(image)} has no mask", where=side.where)
        codes.append(code_of(entry["segmentation"], {"id": image_name(image)} | side.images[number] | image))
    shapes = {tuple(code["size"]) for code in codes}
    if len(shapes) > 1:
        raise InputError(f"the masks of {image_name(image)} differ in size", where=side.where)
    return codes, next(iter(shapes), None)
