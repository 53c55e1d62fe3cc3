"""Detections and objects as arrays, and image by image their overlaps: what every protocol of matching begins with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cvtool.errors import InputError, UsageError
from cvtool.metrics._objects import Objects


@dataclass
class Marks:
    """M marks of one side. shapes: M 4 boxes xywh, or a list of M run-length codes."""

    image: np.ndarray  # M int: position of the image
    label: np.ndarray  # M int: position of the category
    score: np.ndarray  # M float64; 1 in ground truth
    area: np.ndarray  # M float64
    crowd: np.ndarray  # M bool
    difficult: np.ndarray  # M bool: neither to be found nor wrong to find
    shapes: Any

    def __len__(self) -> int:
        return len(self.image)


@dataclass
class Picture:
    """One image: the positions of its detections by falling score, and of its objects."""

    number: int
    found: np.ndarray  # d
    true: np.ndarray  # g


class Table:
    """Both sides of an evaluation as arrays. Marks of categories that were not chosen are left out.

    kind: "bbox", "segm" or "boundary". Detections stand in the order of their images' ids, else as they were given. names: of the K categories,
    unique. Raises UsageError for keypoints, InputError for masks of unknown size.
    """

    def __init__(self, objects: Objects, kinds: tuple[str, ...] = ("bbox", "segm")) -> None:
        self.kind = objects.iou_type
        if self.kind not in kinds:
            raise UsageError(f"--iou-type {self.kind} does not fit this metric", hint=f"it is defined for {' and '.join(kinds)}")
        objects = objects.as_dicts()
        if not objects.scored and objects.results:
            raise InputError("the detections have no scores, and this metric ranks them", hint="--metric agreement compares two annotations")
        self.images: list[dict] = list(objects.document["images"])
        chosen = None if objects.category_ids is None else set(objects.category_ids)
        table = sorted(objects.document["categories"], key=lambda category: category["id"])
        self.categories = [category for category in table if chosen is None or category["id"] in chosen]
        self._numbers = {image["id"]: n for n, image in enumerate(self.images)}
        self._labels = {category["id"]: k for k, category in enumerate(self.categories)}
        self.gt = self._marks([entry for entry in objects.document["annotations"] if entry["category_id"] in self._labels])
        found = [entry for entry in objects.results if entry["category_id"] in self._labels]
        self.dt = self._marks(sorted(found, key=lambda entry: entry["image_id"]))  # so pycocotools breaks ties between images

    @cached_property
    def names(self) -> list[str]:
        own = [str(category.get("name", category["id"])) for category in self.categories]
        return [name if own.count(name) == 1 else f"{name} ({c['id']})" for name, c in zip(own, self.categories, strict=True)]

    def pictures(self) -> Iterator[Picture]:
        """Every image, in the order of the ground truth's table."""
        found = _groups(self.dt.image, np.lexsort((-self.dt.score, self.dt.image)), len(self.images))
        true = _groups(self.gt.image, np.argsort(self.gt.image, kind="stable"), len(self.images))
        for number, (mine, theirs) in enumerate(zip(found, true, strict=True)):
            yield Picture(number, mine, theirs)

    def overlaps(self, found: np.ndarray, true: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
        """d g intersections over unions of these marks of one image; where `crowd` (g), over the detection's own area.

        Of boundaries it is the smaller of the masks' and the boundaries' (Cheng 2021, arXiv:2103.16562, section 5); a crowd has none to fit.
        """
        if not (len(found) and len(true)):
            return np.zeros((len(found), len(true)))
        flags = np.zeros(len(true), bool) if crowd is None else crowd
        values = _iou(self.dt.shapes, found, self.gt.shapes, true, flags)
        if self.kind == "boundary":
            values = np.where(flags, values, np.minimum(values, _iou(self._edges[0], found, self._edges[1], true, flags)))
        return values

    @cached_property
    def _edges(self) -> tuple[list[dict], list[dict]]:
        from cvtool.metrics.boundary_iou import edge_of_code

        return [edge_of_code(code) for code in self.dt.shapes], [edge_of_code(code) for code in self.gt.shapes]

    def _marks(self, entries: list[dict]) -> Marks:
        image = np.array([self._numbers[entry["image_id"]] for entry in entries], np.int64)
        boxes = self.kind == "bbox"
        shapes: Any = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4) if boxes else self._codes(entries)
        own = shapes[:, 2] * shapes[:, 3] if boxes else _areas(shapes)
        return Marks(
            image,
            np.array([self._labels[entry["category_id"]] for entry in entries], np.int64),
            np.array([entry.get("score", 1.0) for entry in entries], np.float64),
            np.array([entry.get("area", area) for entry, area in zip(entries, own, strict=True)], np.float64),
            np.array([bool(entry.get("iscrowd")) for entry in entries], bool),
            np.array([bool(entry.get("difficult")) for entry in entries], bool),
            shapes,
        )

    def _codes(self, entries: list[dict]) -> list[dict]:
        return [code_of(entry["segmentation"], self.images[self._numbers[entry["image_id"]]]) for entry in entries]


def _groups(values: np.ndarray, order: np.ndarray, count: int) -> list[np.ndarray]:
    return np.split(order, np.searchsorted(values[order], np.arange(1, count))) if count else []


def _iou(found: Any, mine: np.ndarray, true: Any, theirs: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    from pycocotools import mask as coco

    if isinstance(found, np.ndarray):
        return coco.iou(np.ascontiguousarray(found[mine]), np.ascontiguousarray(true[theirs]), crowd.astype(np.uint8).tolist())
    return coco.iou([found[i] for i in mine], [true[i] for i in theirs], crowd.astype(np.uint8).tolist())


def _areas(codes: list[dict]) -> np.ndarray:
    from pycocotools import mask as coco

    return np.array([coco.area(code) for code in codes], np.float64)  # one by one: pycocotools 2.0.11 fails on more than 255


def code_of(shape: Any, image: dict) -> dict:
    """Polygons or run-length code -> compressed run-length code with counts as bytes."""
    from pycocotools import mask as coco

    if isinstance(shape, list):
        if "height" not in image or "width" not in image:
            raise InputError(f"the size of image {image['id']} is not known, and its masks are polygons", hint="give it width and height")
        return coco.merge(coco.frPyObjects(shape, image["height"], image["width"]))
    if isinstance(shape["counts"], list):
        return coco.frPyObjects(shape, *shape["size"])
    return {"size": shape["size"], "counts": shape["counts"].encode("ascii") if isinstance(shape["counts"], str) else shape["counts"]}
