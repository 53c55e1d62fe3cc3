"""A class for each picture: accuracy, top-5, precision, recall, F1, calibration and the confusion matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.data.pairing import first, match_categories, match_images, plural
from cvtool.data.sides import Side, image_name, read_found, read_truth
from cvtool.errors import InputError
from cvtool.metrics._answers import Answers
from cvtool.metrics.accuracy import TOP
from cvtool.metrics.confusion import Confusion
from cvtool.records import choose
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._measured import Measured
from cvtool.tasks.evaluation._page import Page, calibration, scores

OPTIONS = {"classes": "", "per_class": "", "split": "", "data_format": ""}
FITS = ("folder", ".json", ".jsonl", ".csv")
BINS = 15
MATRIX = 100  # classes up to which the report holds the confusion matrix unasked


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """Answers against the class of each picture. Raises InputError and UsageError."""
    calls = metrics or [Call("accuracy"), Call("confusion"), Call("calibration")]
    takers = [(registered.find(call.name), call) for call in calls]
    functions = [(metric.load().of_answers, arguments(call, metric.load().of_answers)) for metric, call in takers]
    truth: Side = gt if isinstance(gt, Side) else read_truth(gt, split=options.split, data_format=options.data_format, stdin=options.stdin)
    found = read_found(dt, stdin=options.stdin)
    if found.task != "classification":
        what = "objects" if found.entries else "label maps" if any(found.maps) else "no labels"
        raise InputError(
            f"the ground truth has a class for each picture, and here are {what}", where=found.where, hint="cvtool classify gives labels"
        )
    table = truth.categories
    pairing = match_images(truth, found)
    warnings = list(pairing.warnings)
    if found.failed:
        warnings.append(f"{plural(len(found.failed), 'picture')} could not be read by the classifier and count as wrong: {found.failed[0]}")
    known, said = _known(truth, found)
    warnings += said
    answers: list[list[dict] | None] = [None] * len(truth.images)
    for position, labels in zip(pairing.positions, found.labels, strict=True):
        if position is not None:
            answers[position] = _ranked(labels)

    chosen = None if options.classes is None else set(choose(table, options.classes))
    measured, numbers = _arrays(truth, answers, known, chosen)
    if not numbers:
        raise InputError("there is nothing to measure: no picture of these classes", where=truth.where)
    if silent := int((measured.listed == 0).sum()):
        advice = f"; the data set has the splits {', '.join(truth.splits)}: --split takes one" if len(truth.splits) > 1 else ""
        what = "picture has no answer and counts as wrong" if silent == 1 else "pictures have no answer and count as wrong"
        warnings.append(f"{silent:,} ground-truth {what}{advice}")

    def statistic(weights: np.ndarray | None) -> dict[str, Any]:
        values: dict[str, Any] = {key: None for metric, _ in takers for key in metric.keys}
        for function, more in functions:
            values |= function(measured, weights, **more)
        return values

    values = statistic(None)
    if "ECE" in values and (words := _unscored(measured)):
        warnings.append(f"{words}: ECE is not measured (null)")
    if "top5_accuracy" in values and values["top5_accuracy"] is None and len(table) > TOP:
        warnings.append(f"no answer lists {TOP} classes: top5_accuracy is not measured (null); cvtool classify --top {TOP} gives as many")
    confusion = Confusion(len(table))
    pairs = measured.true * (len(table) + 1) + np.where(measured.found < 0, len(table), measured.found)
    confusion.matrix = np.bincount(pairs, minlength=len(table) * (len(table) + 1)).reshape(len(table), len(table) + 1)
    rows = {category["name"]: row for category, row in zip(table, confusion.per_class(), strict=True)}
    extra = {}
    if options.per_class or len(table) <= MATRIX:
        extra["confusion"] = {"categories": list(rows), "matrix": confusion.matrix[:, :-1].tolist(), "none": confusion.matrix[:, -1].tolist()}
    matched = sum(position is not None for position in pairing.positions)
    bins = next((more["bins"] for _, more in functions if "bins" in more), BINS)
    return Measured(
        task="classification",
        metrics=values,
        units=[image_name(truth.images[n]) for n in numbers],
        statistic=statistic,
        per_unit={"correct": measured.right.astype(float)},
        attributes=[truth.given[n] for n in numbers] if truth.given else (),
        per_class=rows if options.per_class else {},
        extra=extra,
        params={"top": TOP, "ece_bins": bins},
        counts={
            "images": len(numbers),
            "images_matched": matched,
            "unanswered": silent,
            "categories": len(table),
            "matched_by": pairing.how,
        },
        matching=(
            f"matched {matched:,} of {plural(len(found.images), 'classified picture')} by {pairing.how}; "
            f"{sum(answer is None for answer in answers):,} of {plural(len(truth.images), 'ground-truth picture')} without an answer"
        ),
        warnings=warnings,
        lower=("ECE",),
        primary=next(iter(values)),
        page=_page(measured, [category["name"] for category in table]),
    )


def _page(answers: Answers, names: list[str]) -> Page:
    """What the report shows: of each picture its class and what it was taken for, the surest errors first."""

    def unit(number: int) -> dict[str, Any]:
        found, score = int(answers.found[number]), answers.confidence[number]
        taken = names[found] if found >= 0 else "another class" if answers.listed[number] else "nothing"
        return {"line": f"{names[answers.true[number]]}, taken for {taken}" + ("" if np.isnan(score) else f" ({score:.2f})")}

    def charts() -> dict[str, Any]:
        there = answers.listed > 0
        parts = (("scores", scores), ("calibration", calibration))
        return {key: made for key, make in parts if (made := make(answers.confidence[there], answers.right[there]))}

    return Page(unit, charts, first=np.nan_to_num(answers.confidence))


def _known(truth: Side, found: Side) -> tuple[dict[Any, Any], list[str]]:
    """(category id of the answers -> the ground truth's, warnings)."""
    warnings = []
    used = {entry.get("category_id") for labels in found.labels for entry in labels}
    if None in used:
        raise InputError("a label has no category_id", where=found.where)
    known, _ = match_categories(truth.categories, found.categories, sorted(used, key=str), where=found.where)
    if moved := {key: target for key, target in known.items() if key != target}:
        names = {category["id"]: category["name"] for category in truth.categories}
        warnings.append("category ids differ, so classes were matched by name: " + first((f"{names[t]} {k} -> {t}" for k, t in moved.items()), 3))
    foreign = {category["id"]: category.get("name") for category in found.categories}
    if strange := [f"{key} ({foreign[key]})" if foreign.get(key) else str(key) for key in sorted(used - known.keys(), key=str)]:
        one = plural(len(strange), "class", "classes")
        warnings.append(f"{one} of the answers unknown to the ground truth, each of which counts as wrong: {first(strange)}")
    return known, warnings


def _arrays(truth: Side, answers: list[list[dict] | None], known: dict[Any, Any], chosen: set | None) -> tuple[Answers, list[int]]:
    """(the answers as arrays, the position of each picture measured)."""
    index = {category["id"]: label for label, category in enumerate(truth.categories)}
    rows, numbers = [], []
    for number, labels in enumerate(truth.labels):
        true = _true(labels, truth.images[number], index, truth.where)
        if chosen is not None and truth.categories[true]["id"] not in chosen:
            continue
        numbers.append(number)
        answer = answers[number] or []
        listed = [index.get(known.get(entry["category_id"]), -1) for entry in answer]
        score = answer[0].get("score") if answer else None
        place = listed.index(true) if true in listed else -1
        rows.append((true, listed[0] if listed else -1, place, len(listed), np.nan if score is None else score))
    whole = np.array([row[:4] for row in rows], int).reshape(-1, 4).T
    confidence = np.array([row[4] for row in rows], float)
    return Answers(whole[0], whole[1], whole[2], whole[3], confidence, len(truth.categories)), numbers


def _unscored(answers: Answers) -> str | None:
    """Why confidence cannot be compared with accuracy, or None."""
    confidence = answers.confidence[answers.listed > 0]
    if bare := int(np.isnan(confidence).sum()):
        return f"{plural(bare, 'answer')} without a score"
    strayed = int(((confidence < 0) | (confidence > 1)).sum())
    return f"scores outside [0, 1] in {plural(strayed, 'answer')}" if strayed else None


def _ranked(labels: list[dict]) -> list[dict]:
    """Best first; as they stand where some have no score."""
    if all(isinstance(entry.get("score"), (int, float)) for entry in labels):
        return sorted(labels, key=lambda entry: -entry["score"])
    return labels


def _true(labels: list[dict], image: dict, index: dict[Any, int], where: str) -> int:
    if len(labels) != 1:
        what = "no class label" if not labels else f"{len(labels)} class labels"
        raise InputError(f"{image_name(image)} has {what}, and accuracy is of one", where=where)
    key = labels[0].get("category_id")
    if key not in index:
        raise InputError(f"{image_name(image)} has the class {key!r}, which is none of the data set's", where=where)
    return index[key]
