"""What the formats of text share: a word as an annotation, its corners back, pictures beside lists of what stands in them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvtool.data.formats._files import count, place
from cvtool.data.names import Names
from cvtool.images import SUFFIXES
from cvtool.records import Record

CATEGORY = {"id": 1, "name": "text"}
SPARED = "###"  # the text of a region that need not be found, in the data sets of the ICDAR competitions
SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")


def word(quad: Sequence[float], text: str | None, *, spared: bool = False, **more: Any) -> dict[str, Any]:
    """An annotation. quad: x1, y1 ... x4, y4 in pixels, clockwise from where reading begins. spared: a crowd, which need not be found."""
    xs, ys = quad[0::2], quad[1::2]
    area = round(abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2, 2)
    box = [min(xs), min(ys), round(max(xs) - min(xs), 4), round(max(ys) - min(ys), 4)]
    found = {
        "bbox": box,
        "segmentation": [list(quad)],
        "area": area,
        "category_id": CATEGORY["id"],
        "category": CATEGORY["name"],
        "iscrowd": int(spared),
    }
    return found | ({} if text is None else {"text": text}) | more


def corners(annotation: dict[str, Any]) -> list[float] | None:
    """x1, y1 ... x4, y4: a ring of four points as it is, any other shape by its box; None where there is neither."""
    shape = annotation.get("segmentation")
    if isinstance(shape, list) and len(shape) == 1 and len(shape[0]) == 8:
        return list(shape[0])
    if (box := annotation.get("bbox")) is None:
        return None
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def by_stem(*folders: Path) -> dict[str, str]:
    """Stem -> path of the pictures directly in some folders; the first folder that has one counts."""
    found: dict[str, str] = {}
    for folder in folders:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name) if folder.is_dir() else ():
            stem, suffix = os.path.splitext(entry.name)
            if suffix.lower() in SUFFIXES and not entry.name.startswith("."):
                found.setdefault(stem, entry.path)
    return found


class Placed:
    """Pictures that are put into a data set's folders; counts those that were not there."""

    def __init__(self, *, copy: bool) -> None:
        self.copy, self.missing = copy, 0
        self.names: dict[Path, Names] = {}

    def put(self, record: Record, folder: Path) -> str:
        """The name that a record's picture has in the folder."""
        name = self.names.setdefault(folder, Names()).take(record)
        self.missing += not place(record, folder / name, copy=self.copy)
        return name

    def notes(self) -> list[str]:
        found = [note for names in self.names.values() for note in names.note()]
        return found + ([f"{count(self.missing, 'picture')} not found"] if self.missing else [])
