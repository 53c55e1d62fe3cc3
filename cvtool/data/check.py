"""What is wrong with a data set, all of it at once: ids, categories, boxes, sizes, missing pictures.

A finding is `{"check", "severity", "count", "message", "where"}`; `where` lists the first places. An "error" makes some program compute something
wrong or stop; a "warning" is odd and may be meant.

| check | severity | what |
| --- | --- | --- |
| malformed | error | an entry that cannot be read: missing keys, wrong types, NaN |
| duplicate-image-id, duplicate-annotation-id, duplicate-category-id | error | one id, two entries |
| annotation-id-0 | error | pycocotools takes it for "no match": AP falls to 0 |
| unknown-category, unknown-image | error | an annotation of something that the file does not list |
| unsafe-name | error | a file name that is empty or leads out of the data root |
| missing-file, unreadable-file | error | no picture, or none that opens |
| size-mismatch | error | width and height are not the upright picture's (before EXIF turned it, for instance) |
| empty-box | error | width or height is zero or negative |
| outside-box | error | no part of the box lies in the picture |
| over-edge-box | warning | the box reaches over the edge; it is clipped where it is used |
| duplicate-box | warning | the same box of the same category twice in a picture |
| area-mismatch | warning | `area` is far from that of the mask |
| mask-mismatch | warning | the mask reaches out of its box by more than two pixels |
| map-mismatch | error | a label map has another size than its picture |
| duplicate-file | warning | one picture is listed twice |
| unused-category, duplicate-category-name | warning | a category without an object; one name, two ids |
| no-images | error | a data set without a picture |
| no-objects | warning | nothing in the whole set |
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cvtool.data import formats
from cvtool.data.formats import coco
from cvtool.data.roots import Roots
from cvtool.errors import InputError
from cvtool.records import Record

EXAMPLES = 5
EDGE = 0.01  # pixels that rounding may put a box over the edge
_WARNINGS = (
    *("over-edge-box", "duplicate-box", "area-mismatch", "mask-mismatch"),
    *("duplicate-file", "unused-category", "duplicate-category-name", "no-objects"),
)


class Findings:
    """Collects what was found, by check, with a count and the first places."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, Any]] = {}
        self.stopped = False  # the last data set could not be read to its end

    def add(self, check: str, message: str, where: str) -> None:
        severity = "warning" if check in _WARNINGS else "error"
        entry = self._found.setdefault(check, {"check": check, "severity": severity, "count": 0, "message": message, "where": []})
        entry["count"] += 1
        if len(entry["where"]) < EXAMPLES:
            entry["where"].append(where)

    def listed(self) -> list[dict[str, Any]]:
        """Errors first, then by count."""
        return sorted(self._found.values(), key=lambda entry: (entry["severity"] != "error", -entry["count"]))


def check(
    paths: Sequence[str | Path], *, format: str | None = None, images: Path | None = None, split: str | None = None, deep: bool = False
) -> list[dict[str, Any]]:
    """All findings of some data sets. `deep` also decodes every picture, which sees truncated ones."""
    found = Findings()
    for path in map(Path, paths):
        name = format or formats.recognise(path)
        module = formats.get(name)
        if name == "coco":
            records, categories = _document(path, images, found)
        else:
            records, categories = module.read(path, images=images, split=split), module.categories(path)
        _records(records, categories, str(path), found, deep=deep)
    return found.listed()


def _document(path: Path, images: Path | None, found: Findings) -> tuple[Iterable[Record], list[dict]]:
    """A COCO document's records, after its own checks have taken out what cannot be read."""
    raw, strange = coco.load(coco.text_of(path), path)
    bad: dict[str, set[int]] = {"images": set(), "annotations": set(), "categories": set()}
    listed = 0
    for where, what in coco.problems(raw):
        listed += 1
        found.add("malformed", "entries that cannot be read", f"{path}: {what}" + (f" {where[where.index('(') :]}" if "(" in where else ""))
        kind, _, rest = where.partition("[")
        bad[kind].add(int(rest.partition("]")[0]))
    if strange and not listed:
        found.add("malformed", "entries that cannot be read", f"{path}: {strange} is not a JSON number")
    for kind, taken in bad.items():
        raw[kind] = [entry for i, entry in enumerate(raw[kind]) if i not in taken]
    for kind, thing in (("images", "image"), ("annotations", "annotation"), ("categories", "category")):
        counted = Counter(entry.get("id") for entry in raw[kind] if entry.get("id") is not None)
        for key, times in counted.items():
            if times > 1:
                found.add(f"duplicate-{thing}-id", f"{thing} ids that stand more than once", f"{path}: {kind} id {key} ({times} times)")
        if thing == "annotation" and 0 in counted:
            found.add("annotation-id-0", "an annotation has id 0, which pycocotools takes for 'no match'", f"{path}: annotations id 0")
    known = {image["id"] for image in raw["images"]}
    kept = []
    for annotation in raw["annotations"]:
        if annotation["image_id"] in known:
            kept.append(annotation)
        else:
            label = f"{path}: annotation id {annotation.get('id')}, image_id {annotation['image_id']!r}"
            found.add("unknown-image", "annotations of an image that is not listed", label)
    raw["annotations"] = kept
    twice: set[Any] = set()
    unique = [image for image in raw["images"] if not (image["id"] in twice or twice.add(image["id"]))]  # type: ignore[func-returns-value]
    roots, unsafe = Roots(path, images), set()
    for image in unique:
        try:
            roots.find(image["file_name"], where="")
        except InputError as error:
            unsafe.add(image["id"])
            found.add("unsafe-name", "file names that lead out of the data root or are none", f"{path}: images id {image['id']}: {error.what}")
    unique = [image for image in unique if image["id"] not in unsafe]
    raw["annotations"] = [annotation for annotation in kept if annotation["image_id"] not in unsafe]
    return coco.records(raw | {"images": unique}, path, images=images), raw["categories"]


def _records(records: Iterable[Record], categories: list[dict], path: str, found: Findings, *, deep: bool) -> None:
    names = Counter(category["name"] for category in categories)
    for name, times in names.items():
        if times > 1:
            found.add("duplicate-category-name", "category names that stand more than once", f"{path}: {name} ({times} times)")
    known = {category["id"] for category in categories}
    used: Counter[Any] = Counter()
    files: Counter[tuple[str, int]] = Counter()
    any_record = any_text = False
    for record in _until_malformed(records, path, found):
        any_record = True
        name = str(record.get("file_name") or "")
        files[os.path.normpath(name), record.get("page", 0)] += bool(name)
        width, height = _picture(record, found, deep)
        seen: set[tuple] = set()
        for i, annotation in enumerate(record.get("annotations") or ()):
            where = f"{record.name}: " + (f"annotation id {annotation['id']}" if "id" in annotation else f"annotations[{i}]")
            key = annotation.get("category_id")
            if key is not None:
                used[key] += 1
                if key not in known:
                    found.add("unknown-category", "annotations of a category that is not listed", f"{where}, category_id {key!r}")
            _box(annotation, width, height, seen, where, found)
            _shape(annotation, where, found)
        for label in record.get("labels") or ():
            used[label.get("category_id")] += 1
        any_text = any_text or bool(record.get("text"))
        if record.get("segmentation_map"):
            used.update(_map(record, width, height, found))
    for (name, _), times in files.items():
        if times > 1:
            found.add("duplicate-file", "pictures that are listed more than once", f"{name} ({times} times)")
    if stopped := found.stopped:
        categories = []
    for category in categories:
        if category["id"] not in used:
            found.add("unused-category", "categories without an object", f"{path}: {category['name']} (id {category['id']})")
    if not any_record and not stopped:
        found.add("no-images", "there is no picture in it", path)
    if any_record and not used and not any_text and not stopped:
        found.add("no-objects", "nothing is annotated at all", path)


def _until_malformed(records: Iterable[Record], path: str, found: Findings) -> Iterator[Record]:
    """The records up to the first that the format cannot read, which becomes a finding; what it says of a set without any is an error."""
    found.stopped = False
    seen = False
    try:
        for record in records:
            seen = True
            yield record
    except InputError as error:
        if not seen:
            raise
        found.stopped = True
        found.add("malformed", "entries that cannot be read", f"{error.where or path}: {error.what} (the rest of {path} was not looked at)")


def _picture(record: Record, found: Findings, deep: bool) -> tuple[float, float]:
    """The size that boxes are measured by: the picture's, else the stated one, else nothing (0, 0)."""
    from cvtool import images

    stated = record.get("width") or 0, record.get("height") or 0
    if record.failed:
        found.add("unreadable-file", "pictures that cannot be read", f"{record.name}: {record['error']}")
        return stated
    if not record.get("file_name"):
        return stated
    if not record.present() or os.path.isdir(record["file_name"]):
        found.add("missing-file", "pictures that are not there", record.name)
        return stated
    try:
        real = images.size(record.source(), page=record.get("page", 0))
        if deep:
            record.pixels()
    except InputError as error:
        found.add("unreadable-file", "pictures that cannot be read", f"{record.name}: {error.what}")
        return stated
    if any(stated) and stated != real:
        turned = ": EXIF turns the picture" if stated == real[::-1] else ""
        found.add(
            "size-mismatch",
            "stated sizes that are not the upright picture's",
            f"{record.name}: stated {stated[0]} x {stated[1]}, is {real[0]} x {real[1]}{turned}",
        )
    return real


def _box(annotation: dict, width: float, height: float, seen: set[tuple], where: str, found: Findings) -> None:
    box = annotation.get("bbox")
    if box is None:
        return
    x, y, w, h = box
    label = f"{where}, bbox {[round(v, 2) for v in box]}"
    if w <= 0 or h <= 0:
        found.add("empty-box", "boxes without area", label)
    elif width and height:
        if x >= width or y >= height or x + w <= 0 or y + h <= 0:
            found.add("outside-box", "boxes that lie outside the picture", f"{label} in {width:g} x {height:g}")
        elif x < -EDGE or y < -EDGE or x + w > width + EDGE or y + h > height + EDGE:
            found.add("over-edge-box", "boxes that reach over the picture's edge", f"{label} in {width:g} x {height:g}")
    key = (annotation.get("category_id"), *box)
    if key in seen:
        found.add("duplicate-box", "boxes that stand twice in a picture", label)
    seen.add(key)


def _shape(annotation: dict, where: str, found: Findings) -> None:
    """Polygons against `area` and `bbox`."""
    from cvtool.data.formats import _polygons

    shape, box = annotation.get("segmentation"), annotation.get("bbox")
    if not isinstance(shape, list) or not shape:
        return
    rings = [ring for ring in shape if len(ring) >= 6 and len(ring) % 2 == 0]
    if len(rings) < len(shape):
        found.add("malformed", "entries that cannot be read", f"{where}: a polygon of fewer than three points")
    if not rings:
        return
    area, stated = sum(map(_polygons.area, rings)), annotation.get("area")
    if isinstance(stated, (int, float)) and abs(area - stated) > max(20.0, 0.25 * max(area, stated)):
        found.add("area-mismatch", "areas far from those of the masks", f"{where}, area {stated:g}, polygons {area:g}")
    if box is not None:
        x, y, w, h = _polygons.bounds(rings)
        if x < box[0] - 2 or y < box[1] - 2 or x + w > box[0] + box[2] + 2 or y + h > box[1] + box[3] + 2:
            found.add("mask-mismatch", "masks that reach out of their boxes", f"{where}, bbox {[round(v, 2) for v in box]}")


def _map(record: Record, width: float, height: float, found: Findings) -> set[int]:
    """The classes of a label map."""
    import numpy as np

    from cvtool import images

    label = record["segmentation_map"]
    try:
        values = images.labels(label)
    except InputError as error:
        found.add("unreadable-file", "pictures that cannot be read", f"{label}: {error.what}")
        return set()
    if width and values.shape != (height, width):
        size = f"{values.shape[1]} x {values.shape[0]}"
        found.add("map-mismatch", "label maps of another size than their picture", f"{label}: {size}, picture {width} x {height}")
    return set(np.unique(values).tolist())
