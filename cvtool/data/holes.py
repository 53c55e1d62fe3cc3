"""Holes: which pixels of a picture are to be filled, as H W bool arrays; white or 1 is hole.

They are read from mask pictures, COCO segmentations and boxes. A mask picture of two values 0 and 1 is taken as such, any other is hole from half of
white on; in a palette picture whose colours are not gray, every entry but the first is hole. Transparent masks are refused: what is hole in them is
a matter of taste.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvtool import images
from cvtool.data import inputs
from cvtool.data.formats import _polygons
from cvtool.errors import InputError, UsageError, did_you_mean
from cvtool.records import Record, categories_of

_SUFFIXES = ("", "_mask", "-mask", ".mask", "_hole", "-hole")  # of a mask's stem behind its picture's


def of_picture(source: images.Source) -> np.ndarray:
    """The hole that a mask picture shows. Raises InputError for a file that cannot be read and for one with transparency."""
    with images.opened(source) as image:
        upright, _ = images.turned(image)
        if "A" in upright.getbands() and int(np.asarray(upright.getchannel("A")).min(initial=255)) < 255:
            raise InputError("the mask is transparent in places, where it says neither hole nor not", hint="make it black and white")
        if upright.mode == "P":
            indices, table = np.array(upright), np.array(upright.getpalette("RGB"), np.int64).reshape(-1, 3)
            used = table[: int(indices.max(initial=0)) + 1]
            if (used != used[:, :1]).any():
                return indices > 0
        if upright.mode == "1":
            return np.array(upright)
        deep = upright.mode.startswith("I")
        values = np.array(upright if deep else upright.convert("L"))
    most = int(values.max(initial=0))
    return values > (0 if most <= 1 else 32767 if deep and most > 255 else 127)


def of_annotations(annotations: Iterable[Mapping[str, Any]], width: int, height: int) -> np.ndarray:
    """The union of COCO annotations: segmentations, else boxes. Raises InputError for a malformed one, and one of another picture's size."""
    hole = np.zeros((height, width), bool)
    for annotation in annotations:
        if annotation.get("segmentation"):
            hole |= _polygons.mask(annotation["segmentation"], width, height).astype(bool)
        elif annotation.get("bbox"):
            hole |= of_box(annotation["bbox"], width, height)
    return hole


def of_box(box: Sequence[float], width: int, height: int) -> np.ndarray:
    """Every pixel that x, y, w, h in pixels touches. Raises InputError for one that is no box."""
    try:
        x, y, w, h = map(float, box)
        left, top, right, bottom = np.floor(x), np.floor(y), np.ceil(x + w), np.ceil(y + h)
        if not np.isfinite([left, top, right, bottom]).all() or w < 0 or h < 0:
            raise ValueError(box)
    except (TypeError, ValueError) as error:
        raise InputError(f"{list(box)} is no box x, y, width, height") from error
    hole = np.zeros((height, width), bool)
    hole[max(0, int(top)) : max(0, int(bottom)), max(0, int(left)) : max(0, int(right))] = True
    return hole


def grown(hole: np.ndarray, pixels: int) -> np.ndarray:
    """The hole and all that lies within so many pixels of it."""
    return _distance(hole, pixels) <= pixels if pixels and hole.any() else hole


def weights(hole: np.ndarray, feather: int) -> np.ndarray:
    """H W float: 1 in the hole, falling evenly to 0 over `feather` pixels around it; 0 farther away."""
    if not feather or not hole.any():
        return hole.astype(np.float32)
    distance = _distance(hole, feather)
    return np.where(distance <= feather, 1 - distance / (feather + 1), 0).astype(np.float32)


def _distance(hole: np.ndarray, most: int) -> np.ndarray:
    """H W float: distance of each pixel from the hole; infinite where it is surely more than `most`."""
    from scipy.ndimage import distance_transform_edt

    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    part = np.s_[max(0, rows[0] - most) : rows[-1] + most + 1, max(0, columns[0] - most) : columns[-1] + most + 1]
    found = np.full(hole.shape, np.inf)
    found[part] = distance_transform_edt(~hole[part])
    return found


class Chooser:
    """Which annotations of a record count: of these classes (names in any case, or ids; None: all), scored at least `conf`."""

    def __init__(self, classes: Sequence[str] | None = None, conf: float | None = None) -> None:
        self.wanted = None if classes is None else {str(name).strip().lower() for name in classes}
        self.conf = conf

    def __call__(self, record: Record) -> list[dict[str, Any]]:
        """Raises UsageError for a class that the record's categories, where it brings them, do not have."""
        found = [entry for entry in record.get("annotations") or () if isinstance(entry, dict)]
        if self.wanted is not None:
            known = {str(c["name"]).lower(): str(c["id"]) for c in categories_of([record])}
            if known and (missing := self.wanted - known.keys() - set(known.values())):
                name = min(missing)
                raise UsageError(f"unknown class '{name}'", hint=did_you_mean(name, known) or f"the classes are: {', '.join(list(known)[:12])}")
            found = [e for e in found if {str(e.get("category", "")).lower(), str(e.get("category_id"))} & self.wanted]
        if self.conf is not None:
            found = [entry for entry in found if float(entry.get("score", 1.0)) >= self.conf]
        return found


class Masks:
    """What --mask names: one mask picture for all, a folder whose masks are paired by stem (a.png or a_mask.png for a.jpg), or a COCO file or JSON
    lines whose annotations are; `-` is stdin. what: what they are called in messages."""

    def __init__(self, path: str, chooser: Chooser, what: str = "mask") -> None:
        self.path, self.chooser, self.what = path, chooser, what
        self._single: np.ndarray | None = None
        self._files: dict[str, list[str]] | None = None
        self._records: dict[str, list[Record]] | None = None
        if path != "-" and not os.path.exists(path):
            raise InputError(f"no such {what}", where=path)
        if os.path.isdir(path):
            self._files = {}
            for file in inputs.walk(path):
                self._files.setdefault(Path(file).stem, []).append(file)
            if not self._files:
                raise InputError(f"there is no {what} in this folder", where=path)
        elif path == "-" or path.lower().endswith((".json", ".jsonl", ".ndjson")):
            found = list(inputs.read([path], keep_annotations=True))
            if found and found[0].data is not None:
                self._single = of_picture(found[0].data)
                return
            self._records = {}
            for record in found:
                self._records.setdefault(Path(str(record.get("file_name"))).stem, []).append(record)
        else:
            self._single = of_picture(path)

    @property
    def annotated(self) -> bool:
        """Whether classes and scores can be chosen among."""
        return self._records is not None

    def find(self, record: Record, width: int, height: int) -> np.ndarray:
        """The hole of a record's picture. Raises InputError where there is none, or several, or one of another size."""
        if self._single is not None:
            return self._sized(self._single, width, height, self.path)
        stem = Path(str(record.get("file_name"))).stem
        if self._files is not None:
            own = os.path.abspath(str(record.get("file_name")))
            fitting = [file for end in _SUFFIXES for file in self._files.get(stem + end, ()) if os.path.abspath(file) != own]
            if not fitting:
                raise InputError(f"no {self.what} for it in {self.path}", hint=f"such as {stem}.png or {stem}_mask.png")
            if len(fitting) > 1:
                raise InputError(f"more than one {self.what} for it: {fitting[0]}, {fitting[1]}")
            return self._sized(of_picture(fitting[0]), width, height, fitting[0])
        assert self._records is not None
        several = self._records.get(stem, [])
        exact = [other for other in several if other.get("file_name") == record.get("file_name")]
        if len(exact or several) != 1:
            raise InputError(f"{'more than one' if several else 'no'} {self.what} for it in {self.path}")
        return of_annotations(self.chooser((exact or several)[0]), width, height)

    def _sized(self, hole: np.ndarray, width: int, height: int, name: str) -> np.ndarray:
        if hole.shape != (height, width):
            raise InputError(f"the {self.what} {name} is {hole.shape[1]} x {hole.shape[0]} pixels, the picture {width} x {height}")
        return hole
