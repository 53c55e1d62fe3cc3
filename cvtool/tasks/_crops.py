"""A picture of each object: of those found, or of a data set's."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cvtool.data.names import Names
from cvtool.errors import InputError
from cvtool.images import encoded
from cvtool.records import Record

if TYPE_CHECKING:
    from cvtool.tasks.data import DataSet


class Crops:
    """A picture of each object: FOLDER/CATEGORY/NAME_N.jpg, N counting from 1 in the record's order."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.names = folder, Names()

    def save(self, record: Record, pixels: np.ndarray) -> None:
        """Write the objects of one record. An object without a pixel inside the picture has none."""
        from PIL import Image

        name = self.names.take(record, suffix="")
        height, width = pixels.shape[:2]
        for number, entry in enumerate(record.get("annotations") or (), 1):
            x, y, w, h = entry["bbox"]
            left, top = max(0, int(np.floor(x))), max(0, int(np.floor(y)))
            right, bottom = min(width, int(np.ceil(x + w))), min(height, int(np.ceil(y + h)))
            if right <= left or bottom <= top:
                continue
            folder = self.folder / plain_name(str(entry.get("category", entry.get("category_id", "object"))))
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{name}_{number}.jpg"
            temporary = path.with_name(f".{path.name}.tmp")
            try:
                temporary.write_bytes(encoded(Image.fromarray(pixels[top:bottom, left:right]), "JPEG", {"quality": 95}))
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise


def plain_name(text: str) -> str:
    """A category's name as the name of a folder: no separators, no leading dot."""
    return "".join("_" if c in '/\\:*?"<>|' or ord(c) < 32 else c for c in text).strip(". ") or "object"


# ---- a data set of objects -------------------------------------------------------------------------------------------


def crops(source: DataSet, out: Path, *, size: int | None = None, margin: float = 0.0) -> tuple[dict[str, int], int, list[str]]:
    """The objects of a data set as class folders of PNG pictures: ({category: how many}, pictures that cannot be read, notes).

    margin: what is added to a box on each side, as a share of its longer side. size: each is a square around its box, brought to size x size; it is
    moved into the picture where it would hang over, and narrower where the picture is. Crowds are left out. Parts stay parts, unless one was chosen.
    Raises InputError.
    """
    from cvtool.data.formats import folder
    from cvtool.tasks._runner import decoded

    counts: Counter[str] = Counter()
    lost = Counter(failed=0, crowd=0, empty=0)
    names: dict[str | None, Names] = {}

    def records() -> Iterator[Record]:
        for record, pixels in decoded(source.records()):
            if pixels is None:
                lost["failed"] += 1
                continue
            name = names.setdefault(record.get("split"), Names()).take(record, suffix="")
            for number, entry in enumerate(record.get("annotations") or (), 1):
                corners = _window(entry["bbox"], pixels.shape[:2], margin, square=size is not None)
                if entry.get("iscrowd") or corners is None:
                    lost["crowd" if entry.get("iscrowd") else "empty"] += 1
                    continue
                category = str(entry.get("category", entry.get("category_id", "object")))
                counts[category] += 1
                made = Record(file_name=f"{name}_{number}.png", labels=[{"category_id": entry.get("category_id"), "category": category}])
                made.data = _png(pixels, corners, size)
                yield made.changed(split=record["split"]) if "split" in record and source.split is None else made

    notes = folder.write(records(), out)
    notes += [f"{lost[key]:,} {text}" for key, text in (("crowd", "crowds left out"), ("empty", "boxes without a pixel left out")) if lost[key]]
    if not counts:
        raise InputError("the data set has no boxes to cut out", where=source.path)
    return dict(counts), lost["failed"], notes


def _window(box: Sequence[float], shape: tuple[int, ...], margin: float, *, square: bool) -> tuple[int, int, int, int] | None:
    """(left, top, right, bottom) in whole pixels inside a picture of that height and width; None where there is nothing."""
    x, y, w, h = box
    height, width = shape
    if min(x + w, width) <= max(x, 0) or min(y + h, height) <= max(y, 0):
        return None
    more = margin * max(w, h)
    if not square:
        left, top = max(0, math.floor(x - more)), max(0, math.floor(y - more))
        return left, top, min(width, math.ceil(x + w + more)), min(height, math.ceil(y + h + more))
    side = min(max(1, round(max(w, h) + 2 * more)), width, height)
    left = min(max(0, round(x + w / 2 - side / 2)), width - side)
    top = min(max(0, round(y + h / 2 - side / 2)), height - side)
    return left, top, left + side, top + side


def _png(pixels: np.ndarray, corners: tuple[int, int, int, int], size: int | None) -> bytes:
    from PIL import Image

    left, top, right, bottom = corners
    image = Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))
    return encoded(image if size is None else image.resize((size, size), Image.Resampling.LANCZOS), "PNG", {})
