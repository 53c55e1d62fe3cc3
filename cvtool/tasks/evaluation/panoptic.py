"""Panoptic segmentation: a segment and a class for every pixel, in COCO's panoptic files; panoptic quality of things and stuff."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cvtool import images
from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.data.formats import _polygons
from cvtool.data.pairing import first, match_categories, match_images, plural
from cvtool.data.sides import MAX_BYTES, Side, image_name, read_found
from cvtool.errors import InputError, UsageError
from cvtool.metrics.panoptic_quality import Segment
from cvtool.records import choose
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._asked import arguments
from cvtool.tasks.evaluation._measured import Lazy, Measured

OPTIONS = {
    "classes": "",
    "per_class": "",
    "gt_maps": "Folder of the ground truth's panoptic PNGs; without it the one named as its JSON",
    "dt_maps": "Folder of the other side's panoptic PNGs; without it the one named as its JSON",
}
FITS = (".json",)


def score(gt: Any, dt: Any, *, metrics: list[Call], options: Options) -> Measured:
    """COCO panoptic JSON with its PNGs against the same, or against records whose annotations are masks. Raises InputError and UsageError."""
    calls = metrics or [Call("panoptic-quality")]
    if len(calls) > 1:
        raise UsageError(f"--metric {calls[1].name}: one metric of panoptic files at a time")
    module = registered.find(calls[0].name).load()
    arguments(calls[0], lambda: None)
    truth = _document(gt, options.extra.get("gt_maps"), "--gt-maps")
    if not truth.side.images:
        raise InputError("the ground truth has no images", where=truth.side.where)
    found = _found(dt, options)
    table = truth.side.categories
    index = {category["id"]: label for label, category in enumerate(table)}
    pairing = match_images(truth.side, found.side)
    warnings = list(pairing.warnings)
    answers = {position: number for number, position in enumerate(pairing.positions) if position is not None}
    if silent := [image_name(image) for number, image in enumerate(truth.side.images) if number not in answers]:
        raise InputError(
            f"no prediction for {plural(len(silent), 'image')} of the ground truth: {first(silent)}",
            where=found.side.where,
            hint="panoptic quality is of all images: a prediction without segments is one too",
        )
    known, more = match_categories(table, found.side.categories, found.used(), where=found.side.where)
    warnings += more
    theirs = {key: index[target] for key, target in known.items()}
    stack = []
    for number, image in enumerate(truth.side.images):
        name = image_name(image)
        true_map, true_segments = truth.read(number, index, name)
        found_map, found_segments = found.read(answers[number], theirs, name, true_map.shape)
        if found_map.shape != true_map.shape:
            size, other = (f"{shape[1]} x {shape[0]}" for shape in (found_map.shape, true_map.shape))
            raise InputError(f"the map of {name} is {size}, the truth {other}", where=found.side.where)
        stack.append(module.counts(true_map, found_map, true_segments, found_segments, len(table)))
    counted = np.stack(stack)
    things = np.array([bool(category.get("isthing", 1)) for category in table])
    chosen = None if options.classes is None else np.isin(np.arange(len(table)), [index[key] for key in choose(table, options.classes)])

    def statistic(weights: np.ndarray) -> dict[str, float]:
        return module.figures(np.tensordot(weights, counted, 1), things, chosen)

    def per_unit() -> dict[str, np.ndarray]:
        each = [module.figures(one, things, chosen) for one in counted]
        return {key: np.array([row[key] for row in each]) for key in each[0]}

    values = statistic(np.ones(len(counted)))
    if np.isnan(values["PQ"]):
        raise InputError("there is nothing to measure: no segment of these classes", where=truth.side.where)
    names = _unique(table)
    rows = dict(zip(names, module.rows(counted.sum(0)), strict=True)) if options.per_class else {}
    whole = counted.sum((0, 2))
    return Measured(
        task="panoptic",
        metrics=dict(values),
        units=[image_name(image) for image in truth.side.images],
        statistic=statistic,
        per_unit=Lazy(per_unit),
        attributes=truth.side.given,
        per_class={name: row for k, (name, row) in enumerate(rows.items()) if chosen is None or chosen[k]},
        params={"overlap": 0.5, "void": "left out of unions"},
        counts={
            "images": len(counted),
            "categories": len(table) if chosen is None else int(chosen.sum()),
            "segments_found": int(whole[1]),
            "segments_wrong": int(whole[2]),
            "segments_missed": int(whole[3]),
            "matched_by": pairing.how,
        },
        matching=pairing.account,
        warnings=warnings,
        primary="PQ",
    )


# --- the two sides ---------------------------------------------------------------------------------------------------------------------------


@dataclass
class _Files:
    """A panoptic document and its folder of PNGs. entries: of each image, in the order of `side.images`."""

    side: Side
    folder: Path
    entries: list[dict] = field(default_factory=list)

    def used(self) -> Iterable[Any]:
        return dict.fromkeys(segment.get("category_id") for entry in self.entries for segment in entry["segments_info"])

    def read(self, number: int, index: Mapping[Any, int], name: str, shape: tuple[int, ...] | None = None) -> tuple[np.ndarray, dict[int, Segment]]:
        """(H W ids, segments by id). Raises InputError where map and table contradict each other."""
        entry = self.entries[number]
        path = _inside(self.folder, str(entry.get("file_name") or Path(name).with_suffix(".png")), self.side.where)
        ids = segment_ids(images.decode(path))
        segments: dict[int, Segment] = {}
        for part in entry["segments_info"]:
            key = part.get("id") if isinstance(part, dict) else None
            if type(key) is not int or not 0 < key < 1 << 24:
                raise InputError(f"a segment of {name} has the id {key!r}: ids are whole numbers from 1 to 2^24 - 1", where=self.side.where)
            if key in segments:
                raise InputError(f"two segments of {name} have the id {key}", where=self.side.where)
            if part.get("category_id") not in index:
                raise InputError(f"the segment {key} of {name} has the unknown category_id {part.get('category_id')!r}", where=self.side.where)
            area = part.get("area")
            segments[key] = Segment(index[part["category_id"]], bool(part.get("iscrowd")), area if isinstance(area, (int, float)) else None)
        there = set(np.unique(ids).tolist()) - {0}
        if strange := sorted(there - segments.keys()):
            what = f"the map of {name} has {plural(len(strange), 'segment')} that segments_info lacks: {first(strange)}"
            raise InputError(what, where=path, hint="an id is R + 256 G + 65536 B of a pixel's colour, 0 where nothing is")
        if absent := sorted(segments.keys() - there):
            raise InputError(f"segments_info of {name} has {plural(len(absent), 'segment')} that the map lacks: {first(absent)}", where=path)
        return ids, segments


@dataclass
class _Records:
    """Records whose annotations are masks: those with better scores cover others."""

    side: Side

    def used(self) -> Iterable[Any]:
        return dict.fromkeys(entry.get("category_id") for entry in self.side.entries)

    def read(self, number: int, index: Mapping[Any, int], name: str, shape: tuple[int, ...]) -> tuple[np.ndarray, dict[int, Segment]]:
        ids = np.zeros(shape, np.int64)
        mine = [entry for owner, entry in zip(self.side.owners, self.side.entries, strict=True) if owner == number]
        labels = {}
        for key, entry in enumerate(sorted(mine, key=lambda entry: entry.get("score") or 0), 1):
            if entry.get("category_id") not in index:
                raise InputError(f"a segment of {name} has the unknown category_id {entry.get('category_id')!r}", where=self.side.where)
            if entry.get("segmentation") is None:
                raise InputError(f"an object of {name} has a box and no mask", where=self.side.where)
            ids[_polygons.mask(entry["segmentation"], shape[1], shape[0]).astype(bool)] = key
            labels[key] = Segment(index[entry["category_id"]])
        return ids, {key: labels[key] for key in np.unique(ids).tolist() if key}


def segment_ids(pixels: np.ndarray) -> np.ndarray:
    """H W 3 uint8 -> H W ids, R + 256 G + 65536 B."""
    red, green, blue = (pixels[..., i].astype(np.uint32) for i in range(3))
    return red + 256 * green + 65536 * blue


def _found(dt: Any, options: Options) -> _Files | _Records:
    """The other side: panoptic JSON, or records."""
    path = Path(dt)
    if os.fspath(dt) != "-" and path.suffix.lower() == ".json":
        return _document(dt, options.extra.get("dt_maps"), "--dt-maps")
    if options.extra.get("dt_maps") is not None:
        raise UsageError("--dt-maps has no effect on records, which hold their masks", hint="it is for a panoptic JSON file")
    side = read_found(dt, stdin=options.stdin)
    if side.failed:
        raise InputError(f"an image could not be read by the segmenter: {side.failed[0]}", where=side.where)
    if not side.images:
        raise InputError("there are no images in it", where=side.where)
    return _Records(side)


def _document(source: Any, maps: Any, option: str) -> _Files:
    """A panoptic JSON file. Raises InputError where it is none."""
    path = Path(source.where if isinstance(source, Side) else source)
    if not path.is_file():
        raise InputError("a panoptic ground truth or prediction is a JSON file" if path.exists() else "no such file", where=path)
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"the file has {path.stat().st_size:,} bytes, more than {MAX_BYTES:,}", where=path)
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error}", where=path) from error
    entries = value.get("annotations") if isinstance(value, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and isinstance(entry.get("segments_info"), list) for entry in entries):
        raise InputError("not a panoptic file: 'annotations' is no list of objects with segments_info", where=path)
    folder = Path(maps) if maps is not None else path.with_suffix("")
    if not folder.is_dir():
        raise InputError(f"no folder of panoptic PNGs: {folder}", where=path, hint=f"{option} DIR names another one")
    pictures = {image.get("id"): image for image in value.get("images") or () if isinstance(image, dict)}
    side = Side(str(path), "document", categories=[c for c in value.get("categories") or () if isinstance(c, dict) and "id" in c])
    seen: set[Any] = set()
    for entry in entries:
        key = entry.get("image_id")
        if not isinstance(key, (int, str)):
            raise InputError("an annotation has no image_id", where=path)
        if key in seen:
            raise InputError(f"two annotations are of the image {key!r}", where=path)
        seen.add(key)
        given = pictures.get(key, {})
        name = given.get("file_name") or entry.get("file_name")
        side.images.append({"id": key} | ({"file_name": str(name)} if name else {}))
        side.given.append(dict(given) or {"id": key})
    return _Files(side, folder, entries)


def _inside(folder: Path, name: str, where: str) -> Path:
    """A file of the folder. Raises InputError for one outside of it."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"the file name leads out of the folder of maps: {name}", where=where)
    if not path.is_file():
        raise InputError(f"no such map: {name}", where=folder)
    return path


def _unique(table: list[dict]) -> list[str]:
    names = [str(category.get("name", category["id"])) for category in table]
    return [name if names.count(name) == 1 else f"{name} ({category['id']})" for name, category in zip(names, table, strict=True)]
