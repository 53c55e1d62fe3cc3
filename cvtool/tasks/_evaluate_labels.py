"""Classes of pictures against the truth: accuracy, top-5, the confusion matrix and what follows from it, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvtool import __version__
from cvtool.data.pairing import first, match_categories, match_images, plural
from cvtool.data.sides import Side, image_name
from cvtool.errors import InputError
from cvtool.metrics.accuracy import TOP, Accuracy
from cvtool.metrics.calibration import CalibrationError
from cvtool.metrics.confusion import Confusion
from cvtool.records import choose

BINS = 15
MATRIX = 100  # classes up to which the report holds the confusion matrix unasked


def score(truth: Side, found: Side, *, classes: Sequence[str | int] | None = None, per_class: bool = False) -> dict[str, Any]:
    """The report, as `cvtool.tasks.evaluate.evaluate` describes it. Raises InputError and UsageError."""
    if found.task != "classification":
        what = "objects" if found.entries else "label maps" if any(found.maps) else "no labels"
        raise InputError(
            f"the ground truth has a class for each picture, and here are {what}", where=found.where, hint="cvtool classify gives labels"
        )
    table = truth.categories
    index = {category["id"]: label for label, category in enumerate(table)}
    pairing = match_images(truth, found)
    warnings = list(pairing.warnings)
    if found.failed:
        warnings.append(f"{plural(len(found.failed), 'picture')} could not be read by the classifier and count as wrong: {found.failed[0]}")
    used = {entry.get("category_id") for labels in found.labels for entry in labels}
    if None in used:
        raise InputError("a label has no category_id", where=found.where)
    known, _ = match_categories(table, found.categories, sorted(used, key=str), where=found.where)
    if moved := {key: target for key, target in known.items() if key != target}:
        names = {category["id"]: category["name"] for category in table}
        warnings.append("category ids differ, so classes were matched by name: " + first((f"{names[t]} {k} -> {t}" for k, t in moved.items()), 3))
    foreign = {category["id"]: category.get("name") for category in found.categories}
    if strange := [f"{key} ({foreign[key]})" if foreign.get(key) else str(key) for key in sorted(used - known.keys(), key=str)]:
        one = plural(len(strange), "class", "classes")
        warnings.append(f"{one} of the answers unknown to the ground truth, each of which counts as wrong: {first(strange)}")
    answers: list[list[dict] | None] = [None] * len(truth.images)
    for position, labels in zip(pairing.positions, found.labels, strict=True):
        if position is not None:
            answers[position] = _ranked(labels)

    chosen = None if classes is None else set(choose(table, classes))
    accuracy, confusion, calibration = Accuracy(len(table)), Confusion(len(table)), CalibrationError(BINS)
    silent, bare, strayed, measured = 0, 0, 0, 0
    for number, labels in enumerate(truth.labels):
        true = _true(labels, truth.images[number], index, truth.where)
        if chosen is not None and table[true]["id"] not in chosen:
            continue
        measured += 1
        listed = [index.get(known.get(entry["category_id"]), -1) for entry in answers[number] or ()]
        silent += not listed
        accuracy.update(listed, true)
        confusion.update(listed[0] if listed else None, true)
        if listed:
            confidence = (answers[number] or [{}])[0].get("score")
            if confidence is None:
                bare += 1
            elif 0 <= confidence <= 1:
                calibration.update(confidence, listed[0] == true)
            else:
                strayed += 1
    if not measured:
        raise InputError("there is nothing to measure: no picture of these classes", where=truth.where)
    if silent:
        more = f"; the data set has the splits {', '.join(truth.splits)}: --split takes one" if len(truth.splits) > 1 else ""
        what = "picture has no answer and counts as wrong" if silent == 1 else "pictures have no answer and count as wrong"
        warnings.append(f"{silent:,} ground-truth {what}{more}")
    metrics: dict[str, Any] = dict.fromkeys(("accuracy", "top5_accuracy", "balanced_accuracy", "precision", "recall", "f1", "ECE"))
    metrics |= accuracy.compute() | confusion.compute()
    if bare or strayed:
        what = f"{plural(bare, 'answer')} without a score" if bare else f"scores outside [0, 1] in {plural(strayed, 'answer')}"
        warnings.append(f"{what}: ECE is not measured (null)")
    else:
        metrics |= calibration.compute()
    if metrics["top5_accuracy"] is None and len(table) > TOP:
        warnings.append(f"no answer lists {TOP} classes: top5_accuracy is not measured (null); cvtool classify --top {TOP} gives as many")
    rows = {category["name"]: row for category, row in zip(table, confusion.per_class(), strict=True)}
    report: dict[str, Any] = {"task": "classification", "metrics": metrics}
    if per_class:
        metrics |= {f"per_class.{name}.{key}": value for name, row in rows.items() for key, value in row.items()}
        report["per_class"] = rows
    if per_class or len(table) <= MATRIX:
        report["confusion"] = {"categories": list(rows), "matrix": confusion.matrix[:, :-1].tolist(), "none": confusion.matrix[:, -1].tolist()}
    matched = sum(position is not None for position in pairing.positions)
    counts = {"images": measured, "images_matched": matched, "unanswered": silent, "categories": len(table), "matched_by": pairing.how}
    account = (
        f"matched {matched:,} of {plural(len(found.images), 'classified picture')} by {pairing.how}; "
        f"{sum(answer is None for answer in answers):,} of {plural(len(truth.images), 'ground-truth picture')} without an answer"
    )
    params = {"top": TOP, "ece_bins": BINS}
    return report | {"params": params, "counts": counts, "matching": account, "warnings": warnings, "cvtool": __version__}


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
