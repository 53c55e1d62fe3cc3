"""Objects: boxes, masks or keypoints against ground truth; average precision by COCO's protocol, and others."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.errors import InputError, UsageError
from cvtool.metrics._files import Clean, open_clean
from cvtool.metrics._objects import Objects, Part
from cvtool.metrics.coco import IOU_TYPES, Scores, limits_of
from cvtool.metrics.coco import score as coco_score
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._measured import Lazy, Measured
from cvtool.tasks.evaluation._page import Page

OPTIONS = {"classes": "", "per_class": "", "split": "", "data_format": "", "iou_type": "", "max_det": "", "backend": ""}
FITS = (".json", ".jsonl", "folder")
KEPT = ("file_name", "neg_category_ids", "not_exhaustive_category_ids", "crowdIndex")  # of a ground-truth image, for the metrics that read them


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """Detections against ground truth: what belongs together is found, every entry is checked or repaired, and what was done is said.

    `gt` and `dt` are paths or "-"; `gt` may be a `Side`, or both files as `open_both` gives them. Without `metrics`, COCO's; of detections without
    scores `agreement`, for then they are another annotator's. Raises InputError and UsageError.
    """
    iou_type, limits = _protocol(options)
    clean = gt if isinstance(gt, Clean) else None if any(call != Call("coco") for call in metrics) else open_both(gt, dt, options)
    if clean is not None:
        return _as_it_stands(clean, iou_type, limits, options)
    from cvtool.data.sides import Side, no_collection, read_found, read_truth

    with no_collection():
        truth = gt if isinstance(gt, Side) else read_truth(gt, split=options.split, data_format=options.data_format, stdin=options.stdin)
        if truth.task != "detection":
            raise InputError(f"the ground truth is for {truth.task}: there are no objects in it", where=truth.where)
        return _checked(truth, read_found(dt, stdin=options.stdin), iou_type, limits, metrics, options)


def _protocol(options: Options) -> tuple[str, list[int]]:
    """(what is compared, the limits of detections)."""
    iou_type = options.iou_type or "bbox"
    if iou_type not in (*IOU_TYPES, "boundary"):
        raise UsageError(f"unknown IoU type '{iou_type}'", hint=f"known: {', '.join(IOU_TYPES)}, boundary")
    return iou_type, limits_of(options.max_det, iou_type)


# --- two clean files -------------------------------------------------------------------------------------------------------------------------


def open_both(gt: Any, dt: Any, options: Options) -> Clean | None:
    """Two JSON files in which nothing needs a closer look, as the engine has read them; else None. Raises UsageError."""
    iou_type, _ = _protocol(options)
    if iou_type == "boundary":
        return None
    if not isinstance(gt, (str, os.PathLike)) or options.slices or options.split is not None or options.data_format not in (None, "coco"):
        return None
    paths = Path(gt), Path(dt)
    if any(path.suffix.lower() != ".json" for path in paths):
        return None
    return open_clean(*paths, iou_type, options.backend)


def _as_it_stands(clean: Any, iou_type: str, limits: list[int], options: Options) -> Measured:
    from cvtool.data.pairing import plural

    chosen = _chosen(clean.categories, options.classes)
    objects = Objects(clean.truth, clean.found, iou_type, limits, chosen, "hotcoco")
    scores = coco_score(clean.truth, clean.found, iou_type, backend="hotcoco", max_dets=limits, category_ids=chosen)
    warnings = []
    highest = float(scores.scores.max(initial=0))  # of each category the best detection stands at recall 0
    if highest > 1:
        warnings.append(f"scores lie outside [0, 1] (up to {highest:g}): only their order counts here")
    seen = clean.images_with_detections
    silent = clean.images - seen
    matching = f"matched {seen:,} of {plural(seen, 'detected image')} by image id; "
    matching += f"{silent:,} of {plural(clean.images, 'ground-truth image')} without detections"
    annotations, found = clean.within(chosen)
    counts = _counts(clean.images, seen, annotations, found, clean.detections - found, clean.dropped(limits[-1], chosen), "image id")
    parts = [_coco(scores, objects, options.per_class, counts, warnings)]
    return _joined(parts, objects, scores, counts, matching, warnings, _names(list(clean.truth.imgs.values())), ())


# --- anything else ---------------------------------------------------------------------------------------------------------------------------


def _checked(truth: Any, found: Any, iou_type: str, limits: list[int], metrics: list[Call], options: Options) -> Measured:
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
    chosen = _chosen(list(table.values()), options.classes)
    pairing = match_images(truth, found)
    warnings += pairing.warnings
    unseen = len(truth.images) - sum(position is not None for position in pairing.positions)
    if found.kind != "results" and found.images and unseen:  # results name only images in which something was found
        advice = f"; the data set has the splits {', '.join(truth.splits)}: --split takes one" if len(truth.splits) > 1 else ""
        what = "ground-truth images" if unseen > 1 else "ground-truth image"
        warnings.append(f"{unseen:,} {what} not among those of the detections, with all objects counted as missed{advice}")
    known, more = match_categories(declared, found.categories, _used(found), where=found.where)
    warnings += more

    calls = metrics or [Call("coco")]
    if not any(call.name == "coco" for call in calls):
        for option, given in (("--max-det", options.max_det is not None), ("--backend", options.backend != "auto")):
            if given:
                raise UsageError(
                    f"{option} has no effect: it is for --metric coco", hint=f"{calls[0].name} takes its limits as {calls[0].name}:KEY=VALUE"
                )
    shape = "segm" if iou_type == "boundary" else iou_type
    scored = True
    if found.entries and not any("score" in entry for entry in found.entries) and all(call.name in ("coco", "agreement") for call in calls):
        scored = bool(metrics) and any(call.name == "coco" for call in calls)  # asked for by name: an error that says so
        calls = calls if scored else metrics or [Call("agreement")]
        if not metrics:
            warnings.append(
                "the detections have no scores, so they are taken for another annotation of the same images (are --gt and --dt swapped?): "
                "precision, recall, F1 and mean IoU at overlap 0.5, and no average precision"
            )
    sizes = {n: (image["height"], image["width"]) for n, image in zip(numbers, truth.images, strict=True) if _sized(image)}
    owners = [None if owner < 0 else numbers[owner] for owner in truth.owners]
    own = [ids.get(_key(entry.get("category_id"))) for entry in truth.entries]
    ready, more = _entries.ground_truth(truth.entries, owners, own, sizes, shape, truth.name)
    warnings += more
    places = [None if p is None else numbers[p] for p in pairing.positions]
    owners = [None if owner < 0 else places[owner] for owner in found.owners]
    meant = [ids.get(_key(known.get(_key(entry.get("category_id"))))) for entry in found.entries]
    results, more = _entries.detections(found.entries, owners, meant, sizes, shape, found.name, scored=scored)
    warnings += more
    images = [{"id": n} | ({"height": sizes[n][0], "width": sizes[n][1]} if n in sizes else {}) for n in numbers]
    for image, given in zip(images, truth.given or truth.images, strict=True):
        image |= {key: given[key] for key in KEPT if key in given}
    document = {"images": images, "annotations": ready, "categories": list(table.values())}
    objects = Objects(document, results, iou_type, limits, chosen, options.backend, scored)
    seen = len({entry["image_id"] for entry in results})
    if chosen is not None:
        ready, results = ([entry for entry in side if entry["category_id"] in chosen] for side in (ready, results))
    dropped = _entries.beyond(results, limits[-1])
    matched = sum(position is not None for position in pairing.positions)
    counts = _counts(len(truth.images), matched, len(ready), len(results), len(found.entries) - len(results), dropped, pairing.how)
    counts["images_with_detections"] = seen

    scores, parts = None, []
    for call in calls:
        if call.name == "coco":
            arguments(call, lambda: None)
            if iou_type == "boundary":
                from cvtool.metrics import _boundary_ap

                parts.append(_boundary_ap.of_objects(objects))
                continue
            scores = coco_score(document, objects.results, iou_type, backend=options.backend, max_dets=limits, category_ids=chosen)
            parts.append(_coco(scores, objects, options.per_class, counts, warnings))
        else:
            function = registered.find(call.name).load().of_objects
            parts.append(function(objects, **arguments(call, function)))
    if not counts["categories"]:
        counts["categories"] = len(table if chosen is None else chosen)
    measured = _joined(parts, objects, scores, counts, pairing.account, warnings, _names(truth.images), truth.given)
    if not options.per_class:
        measured.per_class = {}
    measured.lower = tuple(key for call in calls for key in registered.find(call.name).lower)
    return measured


def _names(images: Sequence[dict]) -> list[str]:
    from cvtool.data.sides import image_name

    return [image_name(image) for image in images]


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


# --- what was measured -----------------------------------------------------------------------------------------------------------------------


def _counts(images: int, matched: int, annotations: int, detections: int, left: int, dropped: int, how: str) -> dict[str, Any]:
    return {
        "images": images,
        "images_matched": matched,
        "images_with_detections": matched,
        "annotations": annotations,
        "detections": detections,
        "detections_left_out": left,
        "detections_beyond_max_det": dropped,
        "categories": 0,
        "matched_by": how,
    }


def _coco(scores: Scores, objects: Objects, per_class: bool, counts: dict, warnings: list[str]) -> Part:
    """COCO's numbers, and what is to be said of them."""
    values = scores.summary()
    counts["categories"] = len(scores.categories)
    if counts["detections_beyond_max_det"]:
        warnings.append(
            f"{counts['detections_beyond_max_det']:,} detections beyond the best {scores.max_dets[-1]} of their image and category were not counted "
            f"(--max-det)"
        )
    empty = [name for name, value in values.items() if math.isnan(value)]
    if len(empty) == len(values):
        warnings.append("the ground truth has no objects to find (crowds aside): there is nothing to measure")
    elif not counts["detections"]:
        warnings.append("there are no detections: everything scores 0")
    if empty and len(empty) < len(values):
        warnings.append(f"nothing to measure for {', '.join(empty)}: the ground truth has no object of that size (null, not 0)")
    params = {"max_dets": scores.max_dets, "iou_thresholds": [round(t, 6) for t in scores.iou_thresholds], "area_ranges": scores.areas}

    @cache
    def matches() -> Any:
        from cvtool.metrics._resample import Matches

        return Matches.of(objects, list(values))

    return Part(
        values, scores.per_class() if per_class else {}, params, [], {}, lambda weights: matches().weighted(weights), lambda: matches().per_image()
    )


def _joined(
    parts: list[Part], objects: Objects, scores: Scores | None, counts: dict, matching: str, warnings: list[str], units: list[str], attributes: Any
) -> Measured:
    """The metrics of all parts side by side."""
    metrics: dict[str, Any] = {}
    per_class: dict[str, dict[str, Any]] = {}
    params: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for part in parts:
        if both := metrics.keys() & part.metrics.keys():
            raise UsageError(f"--metric: two of these metrics report '{min(both)}'", hint="measure them in two calls")
        metrics |= part.metrics
        params |= part.params
        extra |= part.extra
        warnings += part.warnings
        for name, row in part.per_class.items():
            per_class.setdefault(name, {}).update(row)

    def many(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {key: values for part in parts for key, values in part.many(weights).items()}  # type: ignore[misc]

    def statistic(weights: np.ndarray) -> dict[str, float]:
        return {key: float(values[0]) for key, values in many(np.asarray(weights)[None]).items()}

    def per_unit() -> dict[str, np.ndarray]:
        return {key: values for part in parts if part.per_image for key, values in part.per_image().items()}

    whole = all(part.many is not None for part in parts)
    return Measured(
        task="detection",
        metrics=metrics,
        units=units,
        statistic=statistic if whole else None,
        many=many if whole else None,
        per_unit=Lazy(per_unit),
        attributes=attributes,
        per_class=per_class,
        params=params,
        counts=counts,
        matching=matching,
        warnings=warnings,
        about={"iou_type": objects.iou_type},
        extra=extra,
        backend=scores.backend if scores else None,
        primary=next(iter(metrics)),
        page=_page(objects, scores),
    )


def _page(objects: Objects, scores: Scores | None) -> Page:
    @cache
    def shown() -> Any:
        from cvtool.tasks.evaluation._objects_page import Shown

        return Shown(objects, scores)

    return Page(lambda number: shown().unit(number), lambda: shown().charts(), values=lambda: shown().values())
