"""Label maps, a class for each pixel: mean intersection over union and the accuracies of pixels, by both conventions for void."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from cvtool import images
from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.data.formats import _polygons, masks
from cvtool.data.pairing import first, match_categories, match_images, plural
from cvtool.data.sides import Side, image_name, read_found, read_true_maps, read_truth
from cvtool.errors import InputError, UsageError
from cvtool.metrics.mean_iou import IGNORE, MeanIoU
from cvtool.records import choose
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._measured import Measured
from cvtool.tasks.evaluation._page import Page, labelled

OPTIONS = {
    "classes": "",
    "per_class": "",
    "split": "",
    "data_format": "",
    "void": "Values of the true maps that are no class, such as 11 or 0,11; 255 never is.",
}
FITS = ("folder", "pictures")


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """Maps against maps; a picture that was not answered has all its pixels wrong. Raises InputError and UsageError.

    A metric of this kind offers

        counts(found, true, confusion, *, ...) -> array      of one picture: H W labels 0..K-1 (found: K is none; true: 255 is void) and their
                                                             K+1 K+1 confusion matrix (`MeanIoU`); arrays of several pictures add up
        figures(counts) -> dict[str, float]                  the metrics of the sum
        rows(counts) -> list[dict]                           of each of the K classes, where it has such

    and `counts`' keyword-only parameters are its arguments on the command line.
    """
    calls = metrics or [Call("mean-iou")]
    takers = [(registered.find(call.name), call) for call in calls]
    modules = [(metric.load(), arguments(call, metric.load().counts)) for metric, call in takers]
    truth: Side = gt if isinstance(gt, Side) else _truth(gt, options)
    _leave_out(truth, options.extra.get("void"))
    found = read_found(dt, stdin=options.stdin)
    if not isinstance(gt, Side) and os.path.isfile(gt) and os.path.isfile(dt) and len(truth.maps) == len(found.maps) == 1:
        found.images = [dict(truth.images[0])]  # two maps that were named one by one belong together, whatever they are called
    if found.task != "segmentation" and not any(entry.get("segmentation") for entry in found.entries):
        raise InputError("the ground truth has label maps, and here are no masks", where=found.where, hint="cvtool segment gives masks")
    table = truth.categories
    pairing = match_images(truth, found)
    warnings = list(pairing.warnings)
    if found.failed:
        warnings.append(f"{plural(len(found.failed), 'picture')} could not be read by the segmenter and count as wrong: {found.failed[0]}")
    pairs = _Pairs(truth, found, pairing.positions, options.classes)
    warnings += pairs.warnings
    whole = MeanIoU(len(table))
    parts: list[list[np.ndarray]] = [[] for _ in modules]
    for number in range(len(truth.images)):
        seen, true = pairs[number]
        one = MeanIoU(len(table))
        one.update(seen, true)
        whole.confusion += one.confusion
        for kept, (module, more) in zip(parts, modules, strict=True):
            kept.append(module.counts(seen, true, one.confusion, **more))
    stacks = [np.stack(kept) for kept in parts]
    if pairs.silent:
        advice = f"; the data set has the splits {', '.join(truth.splits)}: --split takes one" if len(truth.splits) > 1 else ""
        one_has = "picture has" if pairs.silent == 1 else "pictures have"
        warnings.append(f"{pairs.silent:,} ground-truth {one_has} no map among the answers, and all their pixels count as wrong{advice}")

    def figures(sums: list[np.ndarray]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for (module, _), counted in zip(modules, sums, strict=True):
            values |= module.figures(counted)
        return values

    def statistic(weights: np.ndarray) -> dict[str, Any]:
        return dict.fromkeys(values) | figures([np.tensordot(weights, stack, 1) for stack in stacks])

    values = figures([stack.sum(0) for stack in stacks])
    if not values:
        raise InputError("there is nothing to measure: no pixel of these classes", where=truth.where)
    unseen = [category["name"] for category, row in zip(table, whole.per_class(), strict=True) if row["IoU"] is None]
    if unseen and options.classes is None:
        warnings.append(f"nothing to measure for {first(unseen)}: neither there nor found")
    void, matched = int(whole.confusion[-1].sum()), len(pairs.answers)
    matrix = whole.confusion[:-1]
    counts = {"images": len(truth.images), "images_matched": matched, "unanswered": pairs.silent, "categories": len(table)}
    return Measured(
        task="segmentation",
        metrics=values,
        units=[image_name(image) for image in truth.images],
        statistic=statistic,
        per_unit=_of_each(modules, stacks, list(values)),
        attributes=truth.given,
        per_class=_rows(modules, stacks, [category["name"] for category in table]) if options.per_class else {},
        extra={"confusion": {"categories": [c["name"] for c in table], "matrix": matrix[:, :-1].tolist(), "none": matrix[:, -1].tolist()}},
        params={"void": "ignored"}
        | {f"{call.name}.{key}": value for call, (_, more) in zip(calls, modules, strict=True) for key, value in more.items()},
        counts=counts | {"matched_by": pairing.how, "pixels": int(matrix.sum()), "void_pixels": void},
        matching=(
            f"matched {matched:,} of {plural(len(found.images), 'segmented picture')} by {pairing.how}; {void:,} void pixels are left out of all "
            f"figures but mIoU_void_counted"
        ),
        warnings=warnings,
        lower=tuple(key for metric, _ in takers for key in metric.lower),
        primary=next(iter(values)),
        page=Page(unit=lambda number: _shown(*pairs[number], [str(category["name"]) for category in table])),
    )


def _shown(found: np.ndarray, true: np.ndarray, names: list[str]) -> dict[str, Any]:
    """Both maps in the classes' colours for the report, and the largest confusion in words."""
    k = len(names)
    known = true != IGNORE
    wrong = np.bincount(true[known].astype(int) * (k + 1) + found[known], minlength=k * (k + 1)).reshape(k, k + 1)
    np.fill_diagonal(wrong, 0)
    row, column = divmod(int(wrong.argmax()), k + 1)
    share = wrong[row, column] / max(1, known.sum())
    line = f"{share:.1%} of the pixels: {names[row]} taken for {'nothing' if column == k else names[column]}" if share else None
    return {"pair": {"truth": labelled(true, names), "found": labelled(found, names)}, "line": line}


def _truth(gt: Any, options: Options) -> Side:
    """A data set, or label maps alone."""
    maps = read_true_maps(gt) if options.split is None and options.data_format is None else None
    return maps or read_truth(gt, split=options.split, data_format=options.data_format, stdin=options.stdin)


def _leave_out(truth: Side, void: str | None) -> None:
    """Takes the values that --void names out of the classes. Raises UsageError."""
    if not void:
        return
    try:
        values = {int(word) for word in void.split(",")}
    except ValueError:
        raise UsageError(f"--void {void}: not whole numbers with commas between them", hint="such as 0,11") from None
    truth.categories = [category for category in truth.categories if category["id"] not in values]
    truth.void = sorted({IGNORE, *values, *(truth.void or ())}) if truth.void is not None else None
    if not truth.categories:
        raise UsageError(f"--void {void} leaves no class", hint="it names the values that are none")


def _of_each(modules: list, stacks: list[np.ndarray], keys: list[str]) -> dict[str, np.ndarray]:
    """The metrics of every picture by itself, nan where it has nothing to measure."""
    values: dict[str, np.ndarray] = {}
    for (module, _), stack in zip(modules, stacks, strict=True):
        single = [module.figures(counted) for counted in stack]
        values |= {key: np.array([one.get(key, np.nan) for one in single]) for key in keys if any(key in one for one in single)}
    return values


def _rows(modules: list, stacks: list[np.ndarray], names: list[str]) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {name: {} for name in names}
    for (module, _), stack in zip(modules, stacks, strict=True):
        if hasattr(module, "rows"):
            for name, row in zip(names, module.rows(stack.sum(0)), strict=True):
                rows[name] |= row
    return rows


class _Pairs:
    """The maps of each picture, (found, true): H W labels; found K where no class was found, true 255 where it is void."""

    def __init__(self, truth: Side, found: Side, positions: list[int | None], classes: Any) -> None:
        self.truth, self.found = truth, found
        self.index = {category["id"]: label for label, category in enumerate(truth.categories)}
        used = {entry.get("category_id") for entry in found.entries} or {category["id"] for category in found.categories} or set(self.index)
        self.known, self.warnings = match_categories(truth.categories, found.categories, sorted(used - {None}, key=str), where=found.where)
        self.answers: dict[int, int] = {position: number for number, position in enumerate(positions) if position is not None}
        self.objects: dict[int, list[dict]] = {}
        for owner, entry in zip(found.owners, found.entries, strict=True):
            self.objects.setdefault(owner, []).append(entry)
        self.own = masks.table(self.index, truth.void)
        self.theirs = np.full(65536, len(truth.categories), np.int64)
        for key, target in self.known.items():
            if isinstance(key, int) and 0 <= key < 65536:
                self.theirs[key] = self.index[target]
        self.chosen = None if classes is None else [self.index[key] for key in choose(truth.categories, classes)]
        self.silent = 0

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        truth, found, path = self.truth, self.found, self.truth.maps[number]
        if path is None:
            raise InputError(f"{image_name(truth.images[number])} has no label map, and others have", where=truth.where)
        values = images.labels(path)
        true = self.own[values]
        if (strange := values[true < 0]).size:
            raise InputError(f"the label {strange.min()} is none of those in classes.txt", where=path, hint="name it there, as 'void' if it is none")
        if self.chosen is not None:
            true = np.where(np.isin(true, self.chosen), true, IGNORE)
        answer = self.answers.get(number)
        if answer is None:
            self.silent += 1
            return np.full(true.shape, len(truth.categories)), true
        if found.maps and found.maps[answer] is not None:
            where = str(found.maps[answer])
            return _same_size(self.theirs[images.labels(where)], true, where), true
        return _painted(self.objects.get(answer, []), true, self.known, self.index, image_name(found.images[answer])), true


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
