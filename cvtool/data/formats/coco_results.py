"""COCO results: the bare array of detections that COCO's evaluation takes; no names, no sizes, no pictures without a detection.

To read one with the pictures, give the ground truth as `images`; without it a record has only its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from cvtool.data.formats import _polygons, coco
from cvtool.data.formats._files import count, output_text
from cvtool.errors import InputError
from cvtool.records import Record, dumps, parse_json

DESCRIPTION = "COCO results, a bare array of detections"
SUFFIX = ".json"
ORDER = 15
_KEYS = ("category_id", "bbox", "segmentation", "keypoints", "score", "area", "keypoint_scores", "iscrowd")
HOLDS, HOLDS_OF_OBJECTS = {"id", "annotations", "file_name", "width", "height"}, {*_KEYS, "category"}


def recognises(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() != ".json":
        return False
    with path.open("rb") as file:
        return file.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def splits(path: Path) -> list[str]:
    return []


def categories(path: Path) -> list[dict]:
    """The ids that occur; results hold no names."""
    return [{"id": key, "name": f"class{key}"} for key in sorted({entry["category_id"] for entry in array(path)}, key=str)]


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record an image id, in order of appearance; with the ground truth (`images`, a COCO file) a record an image of it.

    Raises InputError naming the entry for missing keys, NaN, wrong types, and images or categories that the ground truth does not have.
    """
    path = Path(path)
    by_image: dict[Any, list[dict]] = {}
    for entry in array(path):
        by_image.setdefault(entry["image_id"], []).append({key: value for key, value in entry.items() if key != "image_id"})
    if images is None:
        for key, found in by_image.items():
            yield Record(id=key, annotations=found)
        return
    truth = coco.document(Path(images))
    names = {category["id"]: category["name"] for category in truth["categories"]}
    unknown = by_image.keys() - {image["id"] for image in truth["images"]}
    if unknown:
        raise InputError(f"image_id {min(unknown, key=str)!r} is none of the images of {images}", where=path)
    truth["annotations"] = []
    for record in coco.records(truth, Path(images)):
        found = by_image.get(record.get("id"), [])
        record["annotations"] = [entry | ({"category": names[key]} if (key := entry["category_id"]) in names else {}) for entry in found]
        yield record


def array(path: Path) -> list[dict]:
    """The checked array: every entry has image_id, category_id, a finite score, and a well-formed bbox, segmentation or keypoints."""
    found = parse_json(coco.text_of(path), where=str(path))
    if not isinstance(found, list):
        raise InputError("not COCO results: they are a bare array", where=path)
    for i, entry in enumerate(found):
        if not isinstance(entry, dict):
            raise InputError(f"[{i}] is not an object", where=path)
        wrong = coco.problem(entry)
        if wrong is None and type(entry.get("score")) not in (int, float) and "caption" not in entry:
            wrong = ".score is missing or no number"
        if wrong:
            raise InputError(f"[{i}]{wrong}", where=f"{path}: image_id {entry.get('image_id')!r}")
    return found


def write(records: Iterable[Record], out: Path | IO[str], **options: object) -> list[str]:
    """The array, one detection a line. Masks become compressed RLE, as evaluation programs expect."""
    listed = list(records)
    notes: list[str] = []
    ids, mode = coco.number(listed, notes)
    if listed and all("id" in record for record in listed) and mode != "source":
        path = next(record.dataset["path"] for record in listed if coco.was_numbered(record) and record.dataset)
        notes.append(f"the images' ids are those that {path} gave them: only that file can be scored against")
    elif mode != "source" and listed:
        notes.append("the images have no ids of their own: they were numbered in order, which matches no ground truth")
    empty = sum(not record.get("annotations") for record in listed)
    if empty:
        notes.append(f"COCO results hold only detections: {count(empty, 'image')} without any left out")
    notes.append("COCO results hold no file names, sizes and category names")
    unscored = crowds = 0
    with output_text(out) as stream:
        stream.write("[")
        first = True
        for record, key in zip(listed, ids, strict=True):
            for annotation in record.get("annotations") or ():
                if "category_id" not in annotation:
                    continue
                entry = {"image_id": key} | {k: annotation[k] for k in _KEYS if k in annotation}
                crowds += bool(entry.pop("iscrowd", 0))
                if "score" not in entry:
                    unscored += 1
                    entry["score"] = 1.0
                if "segmentation" in entry:
                    entry["segmentation"] = compressed(entry["segmentation"], record)
                stream.write(("\n" if first else ",\n") + dumps(entry))
                first = False
        stream.write("]\n" if first else "\n]\n")
    if unscored:
        notes.append(f"{count(unscored, 'object')} without a score written with score 1.0")
    if crowds:
        notes.append(f"COCO results know no crowds: {count(crowds, 'crowd region')} written as a detection")
    return notes


def compressed(shape: Any, record: Record) -> dict[str, Any]:
    """Polygons or any RLE -> compressed RLE with counts as text."""
    import numpy as np
    from pycocotools import mask as tools

    if isinstance(shape, dict) and isinstance(shape.get("counts"), str):
        return shape
    width, height = (shape["size"][1], shape["size"][0]) if isinstance(shape, dict) else record.size()
    encoded = tools.encode(np.asfortranarray(_polygons.mask(shape, width, height)))
    counts = encoded["counts"]
    return {"size": [int(v) for v in encoded["size"]], "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
