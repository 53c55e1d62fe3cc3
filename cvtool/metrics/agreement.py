"""Two annotations of the same images: precision, recall, F1 and mean overlap of objects matched one to one, without scores.

Of each image and class, the pairs of greatest intersection over union are matched first; a pair needs 0.5. Exchanging the sides exchanges precision
and recall and changes nothing else. Crowds are neither found nor missed, and an object that is left over and lies half inside a crowd of the other
side counts as nothing.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from cvtool.errors import UsageError
from cvtool.metrics._objects import Objects, Part

KIND = "objects"
KEYS = {
    "precision": "of the objects found, those that match one of the truth, overlap of 0.50 or more",
    "recall": "of the objects of the truth, those that match one found",
    "f1": "harmonic mean of both",
    "mean_IoU": "overlap of the matched pairs, mean",
}


def of_objects(objects: Objects, *, iou: float = 0.5) -> Part:
    """`precision`, `recall`, `f1` and `mean_IoU`, by image; nan where there is nothing to measure."""
    if objects.iou_type not in ("bbox", "segm"):
        raise UsageError(f"--iou-type {objects.iou_type} has no effect: agreement compares boxes or masks")
    objects = objects.as_dicts()
    sides = _grouped(objects.document["annotations"], objects), _grouped(objects.results, objects)
    places = {image["id"]: n for n, image in enumerate(objects.document["images"])}
    sizes = {image["id"]: (image.get("height"), image.get("width")) for image in objects.document["images"]}
    classes = sorted({key[1] for side in sides for key in side})
    sums = np.zeros((len(classes), len(places), 4))  # matched, found, true, overlap of the matched
    for key in set(sides[0]) | set(sides[1]):
        true, found = (side.get(key, []) for side in sides)
        sums[classes.index(key[1]), places[key[0]]] += _match(true, found, objects.iou_type, sizes[key[0]], iou)
    by_image = sums.sum(0)  # N 4

    def many(weights: np.ndarray) -> dict[str, np.ndarray]:
        return _figures(weights @ by_image)

    names = {category["id"]: str(category.get("name", category["id"])) for category in objects.document["categories"]}
    rows = {names[k]: {key: float(v) for key, v in _figures(sums[i].sum(0)).items()} for i, k in enumerate(classes)}
    values = {key: float(value) for key, value in _figures(by_image.sum(0)).items()}
    return Part(values, rows, {"agreement_iou": iou}, many=many, per_image=lambda: {"f1": _figures(by_image)["f1"]})


def _grouped(entries: list[dict], objects: Objects) -> dict[tuple[int, int], list[dict]]:
    wanted = None if objects.category_ids is None else set(objects.category_ids)
    found = defaultdict(list)
    for entry in entries:
        if wanted is None or entry["category_id"] in wanted:
            found[entry["image_id"], entry["category_id"]].append(entry)
    return found


def _match(true: list[dict], found: list[dict], iou_type: str, size: tuple, least: float) -> tuple[float, float, float, float]:
    """(matched, found, true, overlap of the matched)."""
    from pycocotools import mask

    crowds = [[entry for entry in side if entry.get("iscrowd")] for side in (true, found)]
    plain = [[entry for entry in side if not entry.get("iscrowd")] for side in (true, found)]
    shapes = [[_shape(entry, iou_type, size) for entry in side] for side in (*plain, *crowds)]
    overlaps = np.array(mask.iou(shapes[1], shapes[0], [0] * len(shapes[0]))).reshape(len(shapes[1]), len(shapes[0]))
    taken: list[set[int]] = [set(), set()]
    total = 0.0
    for place in np.argsort(-overlaps, axis=None, kind="stable"):
        f, t = divmod(int(place), overlaps.shape[1])
        if overlaps[f, t] < least:
            break
        if f not in taken[1] and t not in taken[0]:
            taken[0].add(t)
            taken[1].add(f)
            total += float(overlaps[f, t])
    counts = []
    for side, crowd in ((0, shapes[3]), (1, shapes[2])):
        left = [shape for i, shape in enumerate(shapes[side]) if i not in taken[side]]
        inside = np.array(mask.iou(left, crowd, [1] * len(crowd))).reshape(len(left), len(crowd)).max(1, initial=0) >= 0.5
        counts.append(len(shapes[side]) - int(inside.sum()))
    return len(taken[0]), counts[1], counts[0], total


def _shape(entry: dict, iou_type: str, size: tuple) -> Any:
    if iou_type == "bbox":
        return entry["bbox"]
    from pycocotools import mask

    shape = entry["segmentation"]
    if isinstance(shape, list):
        return mask.merge(mask.frPyObjects(shape, *size))
    return mask.frPyObjects(shape, *shape["size"]) if isinstance(shape["counts"], list) else shape


def _figures(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Sums ... 4 -> figures ..., nan where there is nothing to measure."""
    right, found, true, overlap = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {"precision": right / found, "recall": right / true, "f1": 2 * right / (found + true), "mean_IoU": overlap / right}
