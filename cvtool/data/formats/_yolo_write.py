"""Writing YOLO: data.yaml, labels/SPLIT/*.txt, images/SPLIT/."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cvtool.data.formats import _polygons
from cvtool.data.formats._files import count, output_text, place
from cvtool.data.names import Names
from cvtool.errors import InputError
from cvtool.records import Record, categories_of


def write(
    records: Iterable[Record], out: Path, *, split: str = "train", copy_images: bool = False, task: str = "detect", **options: object
) -> list[str]:
    """data.yaml, labels/SPLIT/*.txt and images/SPLIT/ with links to the pictures (or, with `copy_images`, copies).

    task: what a line holds: "detect" a box, "segment" a polygon, "pose" a box and keypoints. Classes are numbered 0..K-1 in the order of their ids.
    """
    out = Path(out)
    listed = list(records)
    table = categories_of(listed)
    index = {category["id"]: i for i, category in enumerate(table)}
    points = max((len(a["keypoints"]) // 3 for r in listed for a in r.get("annotations") or () if a.get("keypoints")), default=0)
    if task == "pose" and not points:
        raise InputError("no object has keypoints", hint="--to yolo writes boxes, yolo-seg polygons")
    lost = dict.fromkeys(("crowd", "mask", "keypoints", "box", "picture", "size", "parts", "rle", "boxes"), 0)
    names: dict[str, Names] = {}
    seen: list[str] = []
    for record in listed:
        part = str(record.get("split") or split)
        if part not in seen:
            seen.append(part)
        if part == ".." or Path(part).name != part:
            raise InputError(f"the split's name '{part}' is no file name")
        base = names.setdefault(part, Names()).take(record)
        stem, suffix = os.path.splitext(base)
        (out / "images" / part).mkdir(parents=True, exist_ok=True)
        lost["picture"] += not place(record, out / "images" / part / (stem + (suffix or ".jpg")), copy=copy_images)
        try:
            width, height = record.size()
        except InputError:
            lost["size"] += 1
            continue
        lines = [_line(a, index, width, height, task, points, lost) for a in record.get("annotations") or ()]
        with output_text(out / "labels" / part / f"{stem}.txt") as stream:
            stream.writelines(line + "\n" for line in lines if line)
    _write_yaml(out, seen, table, points if task == "pose" else 0)
    notes = [note for name in names.values() for note in name.note()] + _notes(lost, table, task)
    if len({"train", "val"} & set(seen)) == 1:
        notes.append("data.yaml names one split as both train and val, because YOLO's trainers ask for both")
    return notes


def _write_yaml(out: Path, parts: list[str], table: list[dict], points: int) -> None:
    import yaml

    facts: dict[str, Any] = {part: f"images/{part}" for part in parts}
    if "train" in facts or "val" in facts:  # trainers ask for both
        facts = {"train": facts.get("train", facts.get("val")), "val": facts.get("val", facts.get("train"))} | facts
    if points:
        facts["kpt_shape"] = [points, 3]
    facts["names"] = {i: category["name"] for i, category in enumerate(table)}
    with output_text(out / "data.yaml") as stream:
        yaml.safe_dump(facts, stream, sort_keys=False, allow_unicode=True)


def _line(annotation: dict, index: dict, width: int, height: int, task: str, points: int, lost: dict[str, int]) -> str | None:
    if annotation.get("iscrowd"):
        lost["crowd"] += 1
        return None
    shape = annotation.get("segmentation")
    if annotation.get("category_id") not in index or (annotation.get("bbox") is None and not (task == "segment" and shape)):
        lost["box"] += 1
        return None
    lost["mask"] += bool(shape) and task != "segment"
    lost["keypoints"] += bool(annotation.get("keypoints")) and task != "pose"
    values: list[float]
    if task == "segment":
        values = [v / (height if i % 2 else width) for i, v in enumerate(_ring(annotation, width, height, lost))]
    else:
        x, y, w, h = annotation["bbox"]
        values = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
        if task == "pose":
            own = list(annotation.get("keypoints") or ())
            own += [0] * (3 * points - len(own))
            values += [v if i % 3 == 2 else v / (height if i % 3 else width) for i, v in enumerate(own)]
    if "score" in annotation:
        values.append(annotation["score"])
    return " ".join([str(index[annotation["category_id"]]), *(f"{value:.9g}" for value in values)])


def _ring(annotation: dict, width: int, height: int, lost: dict[str, int]) -> list[float]:
    shape = annotation.get("segmentation")
    rings = [ring for ring in shape if len(ring) >= 6] if isinstance(shape, list) else []
    if isinstance(shape, dict):
        lost["rle"] += 1
        rings = _polygons.outlines(_polygons.mask(shape, width, height))
    if not rings:
        lost["boxes"] += 1
        x, y, w, h = annotation["bbox"]
        rings = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    lost["parts"] += len(rings) > 1
    return _polygons.joined(rings)


def _notes(lost: dict[str, int], table: list[dict], task: str) -> list[str]:
    notes = []
    if [category["id"] for category in table] != list(range(len(table))):
        notes.append("YOLO numbers its classes 0, 1, 2, ...: the original category ids are not held")
    if task != "pose" and lost["keypoints"]:
        notes.append(f"the keypoints of {count(lost['keypoints'], 'object')} left out (--to yolo-pose keeps them)")
    if task != "segment" and lost["mask"]:
        notes.append(f"{count(lost['mask'], 'mask')} left out (--to yolo-seg keeps them)")
    texts = {
        "crowd": "YOLO knows no crowds: {} left out",
        "box": "{} without a box or a known category left out",
        "parts": "YOLO holds one polygon an object: the parts of {} joined by corridors of no width",
        "rle": "YOLO holds polygons: {} given as RLE traced, holes filled",
        "boxes": "{} without a mask written as the box's four corners",
        "picture": "{} not found, so images/ lacks them (--images DIR says where they are)",
        "size": "the size of {} is not known, so its labels are left out",
    }
    things = {
        "crowd": "crowd region",
        "box": "annotation",
        "parts": "object",
        "rle": "mask",
        "boxes": "object",
        "picture": "picture",
        "size": "picture",
    }
    return notes + [text.format(count(lost[key], things[key])) for key, text in texts.items() if lost[key]]
