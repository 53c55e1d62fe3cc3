"""Made-up ground truth and detections for the tests of detection metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco

from cvtool.metrics._objects import Objects

WIDTH, HEIGHT = 120, 100


def made(seed: int = 0, *, images: int = 8, classes: int = 3, kind: str = "bbox", marks: bool = True, ties: bool = False) -> Objects:
    """Objects of every size, detections near them (some of another class, some twice), others of nothing; all scores different unless `ties`.

    marks: some objects are crowds, some difficult. The last class is never found, image 1 is empty, image 2 has no detections.
    """
    draw = np.random.default_rng(seed)
    truths: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        for _ in range(0 if image == 1 else int(draw.integers(1, 7))):
            box = _box(draw)
            label = int(draw.integers(1, classes + 1))
            flags = {"iscrowd": int(marks and draw.random() < 0.1)} | ({"difficult": 1} if marks and draw.random() < 0.1 else {})
            truths.append(
                {"id": len(truths) + 1, "image_id": image, "category_id": label, **_shape(box, kind), "area": box[2] * box[3] * 0.9, **flags}
            )
            for _ in range(0 if image == 2 else int(draw.integers(0, 4))):
                side = np.array([box[2], box[3], box[2], box[3]])
                moved = np.array(box) + draw.normal(0, 0.12, 4) * side
                other = label if draw.random() < 0.8 else int(draw.integers(1, classes + 1))
                found.append(_found(draw, image, min(other, classes - 1), [float(v) for v in np.clip(moved, 1, 90)], kind, ties))
        for _ in range(0 if image == 2 else int(draw.integers(0, 3))):
            found.append(_found(draw, image, int(draw.integers(1, classes)), _box(draw), kind, ties))
    document = {
        "images": [{"id": n, "width": WIDTH, "height": HEIGHT, "file_name": f"{n}.jpg"} for n in range(1, images + 1)],
        "annotations": truths,
        "categories": [{"id": k, "name": f"thing{k}"} for k in range(1, classes + 1)],
    }
    order = draw.permutation(len(found))
    return Objects(document, [found[i] for i in order], kind)


def repeated(objects: Objects, counts: list[int]) -> Objects:
    """The same with each image so many times, under ids of their own that keep its place."""
    images, truths, found = [], [], []
    for image, count in zip(objects.document["images"], counts, strict=True):
        for copy in range(count):
            images.append({**image, "id": image["id"] * 1000 + copy})
            for side, entries in ((truths, objects.document["annotations"]), (found, objects.results)):
                side += [{**entry, "image_id": image["id"] * 1000 + copy} for entry in entries if entry["image_id"] == image["id"]]
    truths = [{**entry, "id": i} for i, entry in enumerate(truths, 1)]
    return Objects({**objects.document, "images": images, "annotations": truths}, found, objects.iou_type, objects.limits)


def _box(draw: np.random.Generator) -> list[float]:
    width, height = draw.choice([9.0, 22.0, 38.0], 2) * draw.uniform(0.8, 1.2, 2)
    return [float(draw.uniform(1, WIDTH - width - 2)), float(draw.uniform(1, HEIGHT - height - 2)), float(width), float(height)]


def _found(draw: np.random.Generator, image: int, label: int, box: list[float], kind: str, ties: bool) -> dict[str, Any]:
    score = round(float(draw.random()), 1) if ties else float(draw.random())
    return {"image_id": image, "category_id": label, "score": score, **_shape(box, kind)}


def _shape(box: list[float], kind: str) -> dict[str, Any]:
    """A box, or an ellipse in it as a run-length code."""
    if kind == "bbox":
        return {"bbox": box}
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    left, top, width, height = box
    inside = ((x - left) / width * 2 - 1) ** 2 + ((y - top) / height * 2 - 1) ** 2 <= 1
    code = coco.encode(np.asfortranarray(inside, dtype=np.uint8))
    return {"bbox": box, "segmentation": {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode("ascii")}}
