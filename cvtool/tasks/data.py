"""Data sets: convert one format to another, find what is wrong, count what is there, hand out sample pictures."""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from cvtool.data import formats, inputs
from cvtool.data.check import check as check
from cvtool.errors import InputError, UsageError, did_you_mean
from cvtool.records import Record, collect_categories

SMALL, MEDIUM = 32**2, 96**2  # COCO's limits of small and medium objects, in pixels


@dataclass
class DataSet:
    """A data set on disk (or, for "-", records on stdin), its format known."""

    path: str
    module: ModuleType | None
    images: Path | None = None
    split: str | None = None

    def records(self) -> Iterator[Record]:
        if self.module is None:
            return inputs.read([self.path], images=self.images, keep_annotations=True)
        return self.module.read(Path(self.path), images=self.images, split=self.split)

    def splits(self) -> list[str]:
        return [] if self.module is None else self.module.splits(Path(self.path))


def open_data(path: str | Path, *, format: str | None = None, images: Path | None = None, split: str | None = None) -> DataSet:
    """Recognise a data set. "-" is stdin; a folder of nothing but pictures is taken as pictures without annotations.

    Raises InputError for a missing path or an unknown format, UsageError where two formats fit or the split does not exist.
    """
    text = os.fspath(path)
    if text == "-":
        if split is not None:
            raise UsageError("--split has no effect on stdin")
        return DataSet(text, None, images)
    if format is None and os.path.isdir(text) and _only_pictures(text):
        return DataSet(text, None, images)
    if format is None and os.path.splitext(text)[1].lower() in _picture_suffixes() and os.path.isfile(text):
        raise InputError("a picture, not a data set", where=text)
    module = formats.get(format or formats.recognise(text))
    if split is not None and split not in (known := module.splits(Path(text))):
        hint = f"its splits: {', '.join(known)}" if known else "this data set has no splits"
        raise UsageError(f"no split '{split}' in {text}", hint=hint)
    return DataSet(text, module, images, split)


def _picture_suffixes() -> frozenset[str]:
    from cvtool.images import SUFFIXES

    return SUFFIXES


_TELLING = (".xml", ".txt", ".yaml", ".yml", ".csv", ".json", ".tar")  # what makes a folder of files a data set


def _only_pictures(folder: str) -> bool:
    """A folder with pictures directly in it and no other folder."""
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    flat = bool(entries) and not any(entry.is_dir() for entry in entries)
    return flat and not any(os.path.splitext(entry.name)[1].lower() in _TELLING for entry in entries)


def convert(source: DataSet, out: Path | IO[str], to: str, *, copy_images: bool = False) -> tuple[int, int, list[str]]:
    """Write a data set in another format; returns how many images it has, how many of them cannot be read,
    and what the format could not hold, a line each.

    File formats get the data set's own file names, relative to its picture folder (JSON lines: paths from the current folder, as everywhere).
    """
    module = formats.get(to)
    counted = _Counted(source.records())
    notes = list(module.write(counted, out, relative=True, copy_images=copy_images) or ())
    if not counted.images:
        raise InputError("the data set holds no images", where=source.path)
    notes += counted.keys_lost(to, module)
    if getattr(module, "SUFFIX", None) == ".json" or to == "csv":
        notes += counted.where_pictures_are()
    return counted.images, counted.failed, notes


class _Counted:
    """Counts records as they pass."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = records
        self.images = self.failed = 0
        self.roots: set[str] = set()
        self.keys: set[str] = set()
        self.object_keys: set[str] = set()
        self.categories: dict[Any, dict] = {}
        self._seen: set[int] = set()

    def __iter__(self) -> Iterator[Record]:
        for record in self._records:
            self.images += 1
            self.failed += record.failed
            self.keys.update(record)
            self.object_keys.update(*(record.get("annotations") or ()))
            collect_categories(record, self.categories, self._seen)
            if record.root is not None:
                self.roots.add(record.root)
            yield record

    def keys_lost(self, name: str, module: ModuleType) -> list[str]:
        """What stood on the images and objects and has no place in the format (masks and keypoints its own notes tell)."""
        notes = []
        every = {key for category in self.categories.values() for key in category}
        kinds = (self.keys, "HOLDS", "images"), (self.object_keys, "HOLDS_OF_OBJECTS", "objects"), (every, "HOLDS_OF_CATEGORIES", "categories")
        for keys, held, of in kinds:
            lost = keys - getattr(module, held, keys) - {"error"}
            if of == "objects":
                lost -= {"id", "area", "iscrowd", "segmentation", "keypoints", "num_keypoints", "category_id", "bbox"}
            if lost:
                notes.append(f"{name} has no place for these keys of {of}: {', '.join(sorted(lost))}")
        return notes

    def where_pictures_are(self) -> list[str]:
        if len(self.roots) != 1:
            return []
        return [f"file names are relative to {next(iter(self.roots))}: readers elsewhere need --images {next(iter(self.roots))}"]


def stats(source: DataSet) -> dict[str, Any]:
    """What a data set holds, as one JSON object.

    `sizes` counts objects by COCO's limits (area below 32 x 32 small, below 96 x 96 medium); `objects_per_image` and the picture sizes give
    min, mean and max. Crowds count as objects, and once more under `crowds`.
    """
    table: dict[Any, dict] = {}
    seen: set[int] = set()
    objects: Counter[Any] = Counter()
    pictures: Counter[Any] = Counter()
    labels: Counter[Any] = Counter()
    splits: Counter[str] = Counter()
    sizes = {"small": 0, "medium": 0, "large": 0}
    per_image, widths, heights = _Span(), _Span(), _Span()
    total = dict.fromkeys(("images", "objects", "empty_images", "failed_images", "crowds", "masks", "keypoints", "label_maps"), 0)
    for record in source.records():
        total["images"] += 1
        total["failed_images"] += record.failed
        total["label_maps"] += "segmentation_map" in record
        collect_categories(record, table, seen)
        if "split" in record:
            splits[record["split"]] += 1
        found = record.get("annotations") or []
        total["objects"] += len(found)
        total["empty_images"] += not found and not record.get("labels") and "segmentation_map" not in record
        per_image.add(len(found))
        width, height = _size(record)
        if width:
            widths.add(width)
            heights.add(height)
        for annotation in found:
            objects[annotation.get("category_id")] += 1
            total["crowds"] += bool(annotation.get("iscrowd"))
            total["masks"] += bool(annotation.get("segmentation"))
            total["keypoints"] += bool(annotation.get("keypoints"))
            area = annotation.get("area")
            if not isinstance(area, (int, float)):
                box = annotation.get("bbox") or (0, 0, 0, 0)
                area = box[2] * box[3]
            sizes["small" if area < SMALL else "medium" if area < MEDIUM else "large"] += 1
        pictures.update({annotation.get("category_id") for annotation in found})
        labels.update(label.get("category_id") for label in (record.get("labels") or ())[:1])
    listed = sorted(table.values(), key=lambda category: (isinstance(category["id"], str), category["id"]))
    rows = []
    for category in listed:
        key = category["id"]
        row = {"id": key, "name": category["name"], "objects": objects[key], "images": pictures[key] or labels[key]}
        rows.append(row)
    result: dict[str, Any] = {"path": source.path, "format": _format_name(source), **total}
    result |= {"objects_per_image": per_image.told(), "width": widths.told(), "height": heights.told(), "sizes": sizes}
    if splits:
        result["splits"] = dict(sorted(splits.items(), key=lambda item: ({"train": 0, "val": 1, "test": 2}.get(item[0], 3), item[0])))
    return result | {"categories": rows}


def _format_name(source: DataSet) -> str:
    if source.module is None:
        return "pictures" if source.path != "-" else "stdin"
    return source.module.__name__.rpartition(".")[2].replace("_", "-")


def _size(record: Record) -> tuple[int, int]:
    try:
        return record.size() if not record.failed and ("file_name" in record or "width" in record) else (0, 0)
    except InputError:
        return 0, 0


class _Span:
    """Least, mean and greatest of numbers, without keeping them."""

    def __init__(self) -> None:
        self.least, self.most, self.sum, self.count = math.inf, -math.inf, 0.0, 0

    def add(self, value: float) -> None:
        self.least, self.most = min(self.least, value), max(self.most, value)
        self.sum, self.count = self.sum + value, self.count + 1

    def told(self) -> dict[str, float] | None:
        return {"min": self.least, "mean": round(self.sum / self.count, 3), "max": self.most} if self.count else None


# --- parts and anchors -----------------------------------------------------------------------------------------------------------------------


def split(source: DataSet, fractions: str, out: Path, *, seed: int = 0, to: str | None = None, copy_images: bool = False) -> tuple[dict, list[str]]:
    """Divide a data set and write its parts into a folder; returns how many pictures each part has, and notes, a line each.

    fractions: `80,10,10` of train, val and test, or `80,20`. The division is the one that training makes of the same fractions and seed. to: the
    format, the data set's own unless given; formats of one file give OUT/train.json ..., formats of folders one data set with these parts.
    Raises UsageError for fractions that are none and for a data set that has several parts.
    """
    from cvtool.data import split as splits

    if (shares := splits.fractions(fractions)) is None:
        raise UsageError(f"'{fractions}' are no fractions", hint="such as 80,10,10 for train, val and test, or 80,20")
    if source.split is None and len(have := source.splits()) > 1:
        raise UsageError(f"this data set has parts already: {', '.join(have)}", where=source.path, hint="--split NAME divides one of them")
    records = list(source.records())
    if not records:
        raise InputError("the data set holds no images", where=source.path)
    parts = dict(zip(splits.PARTS, splits.divided(records, shares, seed), strict=False))
    name = to or ("jsonl" if source.module is None else _format_name(source))
    module = formats.get(name)
    notes: list[str] = []
    if suffix := getattr(module, "SUFFIX", None):
        for part, listed in parts.items():
            counted = _Counted(r.changed(split=part) if "split" in r else r for r in listed)
            notes += module.write(counted, out / f"{part}{suffix}", relative=True)
            notes += counted.keys_lost(name, module) + (counted.where_pictures_are() if suffix != ".jsonl" else [])
    else:
        listed = [record.changed(split=part) for part, some in parts.items() for record in some]
        notes += module.write(listed, out, copy_images=copy_images)
    return {part: len(some) for part, some in parts.items()}, list(dict.fromkeys(notes)) + _absent(parts)


def _absent(parts: dict[str, list[Record]]) -> list[str]:
    """Classes that a part lacks."""
    held = {part: {a.get("category", a.get("category_id")) for r in some for key in ("labels", "annotations") for a in r.get(key) or ()}
            for part, some in parts.items()}  # fmt: skip
    every = set().union(*held.values())
    notes = []
    for part, names in held.items():
        if missing := sorted(map(str, every - names)):
            notes.append(f"{part} has no {', '.join(missing[:8])}{', ...' if len(missing) > 8 else ''}: too few pictures of it")
    return notes


def augment(
    source: DataSet,
    out: Path,
    *,
    generator: str | None = None,
    autoencoder: str | None = None,
    op: str | None = None,
    strength: float | None = None,
    **options: Any,
) -> tuple[dict[str, int], list[str]]:
    """The data set as class folders with pictures more, by a generator or by an autoencoder (`_enlarge.generated`, `_enlarge.between`)."""
    from cvtool.tasks import _enlarge  # with torch

    if generator is not None:
        return _enlarge.generated(source, out, generator, **options)
    chosen: dict[str, Any] = {"op": op, "strength": strength}
    assert autoencoder is not None
    return _enlarge.between(source, out, autoencoder, **{key: value for key, value in chosen.items() if value is not None}, **options)


def anchors(source: DataSet, k: int, *, img_size: int = 0, seed: int = 0, plot: Path | None = None) -> dict[str, Any]:
    """Anchors learned from the boxes (`cvtool.data.anchors`), as one JSON object: `anchors` (width, height, small to large), `mean_iou` of each box
    with its best one, `recall` (the share of the boxes for which that is at least 0.5), and `curve`, the mean IoU for 1 .. k anchors."""
    from cvtool.data import anchors as search

    sizes = search.box_sizes(source.records(), img_size)
    found = search.learned(sizes, k, seed)
    fit = search.iou(sizes, found[-1].sizes)
    report = {
        "path": source.path, "k": k, "img_size": img_size or None, "boxes": len(sizes), "seed": seed,
        "anchors": found[-1].sizes.round(1).tolist(), "mean_iou": found[-1].mean_iou, "recall": float((fit.max(1) >= 0.5).mean()),
        "curve": [one.mean_iou for one in found],
    }  # fmt: skip
    if plot is not None:
        from cvtool.render.clusters import draw

        title = f"{k} anchors of {len(sizes):,} boxes" + (f", pictures of {img_size} pixels" if img_size else "")
        picture = draw(sizes, fit.argmax(1), found[-1].sizes, report["curve"], title=title)
        draft = plot.with_name(f".{plot.name}.tmp")
        plot.parent.mkdir(parents=True, exist_ok=True)
        picture.save(draft, format="PNG")
        draft.replace(plot)
    return report


# --- sample pictures -------------------------------------------------------------------------------------------------------------------------

_SAMPLES = {  # name -> (package, file inside it, what it shows)
    "astronaut": ("skimage", "data/astronaut.png", "Eileen Collins, a face in colour; 512 x 512, NASA, public domain"),
    "camera": ("skimage", "data/camera.png", "a photographer in gray; 512 x 512, CC0"),
    "cat": ("skimage", "data/chelsea.png", "Chelsea the cat; 451 x 300, CC0"),
    "cells": ("skimage", "data/cell.png", "one cell in phase contrast; CC0"),
    "china": ("sklearn", "datasets/images/china.jpg", "a Chinese temple; 640 x 427, CC BY"),
    "coffee": ("skimage", "data/coffee.png", "a cup of coffee and a spoon; 600 x 400, CC0"),
    "coins": ("skimage", "data/coins.png", "Greek coins from Pompeii in gray; 384 x 303"),
    "flower": ("sklearn", "datasets/images/flower.jpg", "a dahlia; 640 x 427, CC BY"),
    "galaxies": ("skimage", "data/hubble_deep_field.jpg", "the Hubble deep field; NASA, public domain"),
    "horse": ("skimage", "data/horse.png", "a horse's outline, black and white"),
    "microscope": ("skimage", "data/ihc.png", "stained tissue; 512 x 512"),
    "moon": ("skimage", "data/moon.png", "the moon's surface in gray; NASA, public domain"),
    "motorcycle": ("skimage", "data/motorcycle_left.png", "a motorcycle in a workshop, left view of a stereo pair"),
    "page": ("skimage", "data/page.png", "a scanned page of print"),
    "pages": ("skimage", "data/multipage.tif", "a TIFF of two pages"),
    "retina": ("skimage", "data/retina.jpg", "the back of an eye; 1411 x 1411"),
    "rocket": ("skimage", "data/rocket.jpg", "a Falcon 9 before its start; 640 x 427, SpaceX, CC0"),
    "text": ("skimage", "data/text.png", "a line of handwriting-like text in gray"),
}
_ALIASES = {"chelsea": "cat", "cell": "cells", "hubble": "galaxies", "ihc": "microscope", "photographer": "camera", "face": "astronaut"}


def samples() -> dict[str, tuple[Path, str]]:
    """Name -> (file, what it shows), of the sample pictures that scikit-image and scikit-learn have put on this machine. Touches no network."""
    import importlib.util

    folders = {}
    for package in ("skimage", "sklearn"):
        spec = importlib.util.find_spec(package)  # finds a top-level package without importing it
        if spec is not None and spec.submodule_search_locations:
            folders[package] = Path(next(iter(spec.submodule_search_locations)))
    found = {name: (folders[package] / file, text) for name, (package, file, text) in _SAMPLES.items() if package in folders}
    return {name: entry for name, entry in found.items() if entry[0].is_file()}


def sample(name: str) -> Path:
    """The file of one sample picture. Raises UsageError for an unknown name, InputError where the package that carries it is not installed."""
    plain = name.lower().rpartition(".")[0] or name.lower()
    plain = _ALIASES.get(plain, plain)
    have = samples()
    if plain in have:
        return have[plain][0]
    if plain in _SAMPLES:
        package = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[_SAMPLES[plain][0]]
        raise InputError(f"'{plain}' is not on this machine", hint=f"it comes with {package}: pip install {package}")
    raise UsageError(f"no sample '{name}'", hint=did_you_mean(plain, [*have, *_ALIASES]) or "there are: " + ", ".join(have))


def hand_out(names: Iterable[str], folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Copy sample pictures into a folder, named after what was asked for; returns their paths. A file that is the same already is left alone.

    Raises UsageError, before anything is written, if another file of that name is in the way.
    """
    import filecmp

    jobs = []
    for name in names:
        file = sample(name)
        target = folder / f"{Path(name).stem.lower()}{file.suffix}"
        if target.exists() and not overwrite and not (target.is_file() and filecmp.cmp(file, target, shallow=False)):
            raise UsageError(f"{target} exists and is another file", hint="--overwrite replaces it")
        jobs.append((file, target))
    folder.mkdir(parents=True, exist_ok=True)
    for file, target in jobs:
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        shutil.copyfile(file, temporary)
        os.replace(temporary, target)
    return [target for _, target in jobs]
