"""Evaluate what a model said: read both sides, find out what belongs together, check or repair every entry, score, and say what was done.

What the ground truth holds decides what is measured: objects (here), a class for each picture (`_evaluate_labels.py`), label maps
(`_evaluate_maps.py`). Nothing is mis-scored in silence: whatever was left out, renumbered or matched otherwise than by equal ids is a line of
`warnings`, and where nothing can be compared it is an error and not a 0. The pictures are never opened.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from cvtool import __version__
from cvtool.errors import InputError, UsageError
from cvtool.metrics.coco import IOU_TYPES, Scores, limits_of, score


def evaluate(
    gt: str | os.PathLike,
    dt: str | os.PathLike,
    *,
    iou_type: str | None = None,
    max_det: int | None = None,
    classes: Sequence[str | int] | None = None,
    per_class: bool = False,
    split: str | None = None,
    data_format: str | None = None,
    backend: str = "auto",
    stdin: IO[bytes] | None = None,
) -> dict[str, Any]:
    """Scores detections by COCO's protocol, classes of pictures or label maps; returns a report that can be written as JSON.

    gt: a COCO document, a data set that `cvtool.data.formats` knows (with `split`), JSON lines, or "-".
    dt: COCO results, a COCO document, CSV or JSON lines with scores, a folder of label maps, or "-".
    iou_type, max_det and backend are for detections. iou_type: "bbox" (unless given), "segm" or "keypoints". max_det: how many detections an image
    and category count (COCO's 100; keypoints 20).
    classes: names or ids of the ground truth's categories; the others are not measured. data_format: of `gt`, where looking is not enough.

    The report: task, iou_type, metrics (flat: AP, AP50 ... as fractions, None where nothing could be measured), per_class (if asked),
    params, counts, matching (in words), warnings (lines), backend, cvtool; of classes and maps without iou_type and backend, and with
    confusion (categories, matrix: true by found, none: true and no class found). Raises InputError and UsageError.
    """
    asked = {"--iou-type": iou_type, "--max-det": max_det, "--backend": None if backend == "auto" else backend}
    iou_type = iou_type or "bbox"
    if iou_type not in IOU_TYPES:
        raise UsageError(f"unknown IoU type '{iou_type}'", hint=f"known: {', '.join(IOU_TYPES)}")
    if os.fspath(gt) == os.fspath(dt) == "-":
        raise UsageError("stdin can be read only once: either the ground truth or the detections come from it")
    limits = limits_of(max_det, iou_type)
    clean = _clean(gt, dt, iou_type, backend) if split is None and data_format in (None, "coco") else None
    if clean is None:
        from cvtool.data.sides import no_collection, read_found, read_truth

        with no_collection():
            truth = read_truth(gt, split=split, data_format=data_format, stdin=stdin)
            found = read_found(dt, stdin=stdin)
            if truth.task != "detection":
                if option := next((option for option, value in asked.items() if value is not None), None):
                    raise UsageError(f"{option} has no effect: the ground truth is for {truth.task}", hint="it is for detections; leave it out")
                return _other(truth.task)(truth, found, classes=classes, per_class=per_class)
            scores, counts, matching, warnings = _checked(truth, found, iou_type, limits, classes, backend)
    else:
        scores, counts, matching, warnings = _as_it_stands(clean, iou_type, limits, classes)
    return _report(scores, counts, matching, warnings, per_class)


# --- two clean files -------------------------------------------------------------------------------------------------------------------------


def _clean(gt: Any, dt: Any, iou_type: str, backend: str) -> Any:
    paths = Path(gt), Path(dt)
    if any(path.suffix.lower() != ".json" for path in paths):
        return None
    from cvtool.metrics._files import open_clean

    return open_clean(*paths, iou_type, backend)


def _as_it_stands(clean: Any, iou_type: str, limits: list[int], classes: Sequence[str | int] | None) -> tuple[Scores, dict, str, list[str]]:
    from cvtool.data.pairing import plural

    chosen = _chosen(clean.categories, classes)
    scores = score(clean.truth, clean.found, iou_type, backend="hotcoco", max_dets=limits, category_ids=chosen)
    warnings = []
    highest = float(scores.scores.max(initial=0))  # of each category the best detection stands at recall 0
    if highest > 1:
        warnings.append(f"scores lie outside [0, 1] (up to {highest:g}): only their order counts here")
    seen = clean.images_with_detections
    silent = clean.images - seen
    matching = f"matched {seen:,} of {plural(seen, 'detected image')} by image id; "
    matching += f"{silent:,} of {plural(clean.images, 'ground-truth image')} without detections"
    objects, found = clean.within(chosen)
    counts = _counts(clean.images, seen, objects, found, clean.detections - found, clean.dropped(limits[-1], chosen), scores, "image id")
    return scores, counts, matching, warnings


# --- anything else ---------------------------------------------------------------------------------------------------------------------------


def _other(task: str) -> Any:
    """What scores a ground truth without objects."""
    if task == "classification":
        from cvtool.tasks._evaluate_labels import score
    else:
        from cvtool.tasks._evaluate_maps import score
    return score


def _checked(
    truth: Any, found: Any, iou_type: str, limits: list[int], classes: Sequence[str | int] | None, backend: str
) -> tuple[Scores, dict, str, list[str]]:
    from cvtool.data.pairing import match_categories, match_images, plural
    from cvtool.metrics import _entries

    if found.task != "detection" and not found.entries:
        what = "one label an image" if found.task == "classification" else "label maps"
        hint = "the ground truth has boxes, masks or keypoints to compare with"
        raise InputError(f"there are no objects in it, only {what}", where=found.where, hint=hint)
    warnings: list[str] = []
    if found.failed:
        warnings.append(f"{plural(len(found.failed), 'image')} could not be read by the detector and have no detections: {found.failed[0]}")
    numbers = _image_numbers(truth.images, truth.where, warnings)
    declared = _declared(truth, warnings)
    table, ids = _category_table(declared)
    chosen = _chosen(list(table.values()), classes)
    pairing = match_images(truth, found)
    warnings += pairing.warnings
    unseen = len(truth.images) - sum(position is not None for position in pairing.positions)
    if found.kind != "results" and found.images and unseen:  # results name only images in which something was found
        advice = f"; the data set has the splits {', '.join(truth.splits)}: --split takes one" if len(truth.splits) > 1 else ""
        what = "ground-truth images" if unseen > 1 else "ground-truth image"
        warnings.append(f"{unseen:,} {what} not among those of the detections, with all objects counted as missed{advice}")
    known, more = match_categories(declared, found.categories, _used(found), where=found.where)
    warnings += more

    sizes = {n: (image["height"], image["width"]) for n, image in zip(numbers, truth.images, strict=True) if _sized(image)}
    owners = [None if owner < 0 else numbers[owner] for owner in truth.owners]
    own = [ids.get(_key(entry.get("category_id"))) for entry in truth.entries]
    ready, more = _entries.ground_truth(truth.entries, owners, own, sizes, iou_type, truth.name)
    warnings += more
    places = [None if p is None else numbers[p] for p in pairing.positions]
    owners = [None if owner < 0 else places[owner] for owner in found.owners]
    meant = [ids.get(_key(known.get(_key(entry.get("category_id"))))) for entry in found.entries]
    results, more = _entries.detections(found.entries, owners, meant, sizes, iou_type, found.name)
    warnings += more
    images = [{"id": n} | ({"height": sizes[n][0], "width": sizes[n][1]} if n in sizes else {}) for n in numbers]
    document = {"images": images, "annotations": ready, "categories": list(table.values())}
    scores = score(document, results, iou_type, backend=backend, max_dets=limits, category_ids=chosen)
    seen = len({entry["image_id"] for entry in results})
    if chosen is not None:
        ready, results = ([entry for entry in side if entry["category_id"] in chosen] for side in (ready, results))
    dropped = _entries.beyond(results, limits[-1])
    left = len(found.entries) - len(results)
    matched = sum(position is not None for position in pairing.positions)
    counts = _counts(len(truth.images), matched, len(ready), len(results), left, dropped, scores, pairing.how)
    return scores, counts | {"images_with_detections": seen}, pairing.account, warnings


def _image_numbers(images: list[dict], where: str, warnings: list[str]) -> list[int]:
    """A whole number for each image: its id, so that ties break as in pycocotools; numbered by place where ids are not such numbers."""
    ids = [image.get("id") for image in images]
    repeated = len(set(ids)) < len(ids)
    if repeated and None not in ids:
        double = next(key for i, key in enumerate(ids) if key in ids[:i])
        raise InputError(f"two images of the ground truth have the id {double!r}", where=where, hint="whose annotations are whose cannot be told")
    if all(type(key) is int and key >= 0 for key in ids) and not repeated:
        return ids  # type: ignore[return-value]
    if any(isinstance(key, str) for key in ids):
        warnings.append(f"image ids of the ground truth are text, such as {next(k for k in ids if isinstance(k, str))!r}: used as names")
    return list(range(1, len(images) + 1))


def _declared(truth: Any, warnings: list[str]) -> list[dict]:
    """The ground truth's table of categories, made from its annotations where it has none."""
    if truth.categories:
        return truth.categories
    used = dict.fromkeys(key for entry in truth.entries if (key := _key(entry.get("category_id"))) is not None)
    if used:
        warnings.append("the ground truth has no table of categories: it was made from its annotations, so classes without objects are unknown")
    return [{"id": key} for key in sorted(used, key=str)]


def _category_table(declared: list[dict]) -> tuple[dict[int, dict], dict[Any, int]]:
    """(number -> category as the engines read it, key of the category's own id -> number): its own id where that is a whole number."""
    plain = all(type(c["id"]) is int and c["id"] >= 0 for c in declared)
    ids = {_key(c["id"]): c["id"] if plain else n for n, c in enumerate(declared, 1)}
    table = {ids[_key(c["id"])]: {**c, "id": ids[_key(c["id"])], "name": str(c.get("name") or f"class{c['id']}")} for c in declared}
    return table, ids


def _key(identity: Any) -> Any:
    """A category id as a key: 1.0 is 1, and what cannot be a key is no id."""
    if isinstance(identity, float) and identity.is_integer():
        return int(identity)
    return identity if isinstance(identity, (int, str)) else None


def _used(found: Any) -> list[Any]:
    """Category ids that occur, in order of appearance. Raises InputError for an entry without one."""
    used: dict[Any, None] = {}
    for i, entry in enumerate(found.entries):
        key = _key(entry.get("category_id"))
        if key is None:
            raise InputError("a detection has no category_id", where=found.name(i))
        used[key] = None
    return list(used)


def _sized(image: dict) -> bool:
    return all(type(image.get(side)) is int and image[side] > 0 for side in ("height", "width"))


def _chosen(categories: list[dict], classes: Sequence[str | int] | None) -> list[int] | None:
    if classes is None:
        return None
    from cvtool.records import choose

    return sorted(choose(categories, classes))


# --- the report ------------------------------------------------------------------------------------------------------------------------------


def _counts(images: int, matched: int, annotations: int, detections: int, left: int, dropped: int, scores: Scores, how: str) -> dict[str, Any]:
    return {
        "images": images,
        "images_matched": matched,
        "images_with_detections": matched,
        "annotations": annotations,
        "detections": detections,
        "detections_left_out": left,
        "detections_beyond_max_det": dropped,
        "categories": len(scores.categories),
        "matched_by": how,
    }


def _report(scores: Scores, counts: dict, matching: str, warnings: list[str], per_class: bool) -> dict[str, Any]:
    values = scores.summary()
    rows = scores.per_class() if per_class else {}
    limit = scores.max_dets[-1]
    if counts["detections_beyond_max_det"]:
        warnings.append(
            f"{counts['detections_beyond_max_det']:,} detections beyond the best {limit} of their image and category were not counted (--max-det)"
        )
    empty = [name for name, value in values.items() if math.isnan(value)]
    if len(empty) == len(values):
        warnings.append("the ground truth has no objects to find (crowds aside): there is nothing to measure")
    elif not counts["detections"]:
        warnings.append("there are no detections: everything scores 0")
    if empty and len(empty) < len(values):
        warnings.append(f"nothing to measure for {', '.join(empty)}: the ground truth has no object of that size (null, not 0)")
    metrics = {name: _plain(value) for name, value in values.items()}
    metrics |= {f"per_class.{name}.{key}": _plain(value) for name, row in rows.items() for key, value in row.items()}
    report: dict[str, Any] = {"task": "detection", "iou_type": scores.iou_type, "metrics": metrics}
    if per_class:
        report["per_class"] = {name: {key: _plain(value) for key, value in row.items()} for name, row in rows.items()}
    report["params"] = {"max_dets": scores.max_dets, "iou_thresholds": [round(t, 6) for t in scores.iou_thresholds], "area_ranges": scores.areas}
    return report | {"counts": counts, "matching": matching, "warnings": warnings, "backend": scores.backend, "cvtool": __version__}


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
