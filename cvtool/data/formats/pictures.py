"""Pictures and nothing else: a folder with pictures in it, for models that learn from pictures alone.

It is what a folder is taken for when no other format fits; `--data-format pictures` takes any folder so, whatever else it says of its pictures.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from cvtool.data.formats._files import count, place
from cvtool.data.names import Names
from cvtool.errors import InputError
from cvtool.images import SUFFIXES
from cvtool.records import Record

DESCRIPTION = "a folder of pictures, without labels"
SUFFIX = None
ORDER = 90
FALLBACK = True  # asked only where no other format fits
HOLDS = {"file_name", "width", "height", "annotations", "labels"}
_TELLING = (".xml", ".txt", ".yaml", ".yml", ".csv", ".json", ".tar")  # files of another layout, which may be broken


def recognises(path: Path) -> bool:
    """Pictures directly in it, and nothing that could say something of them."""
    if not path.is_dir():
        return False
    suffixes = {os.path.splitext(entry.name)[1].lower() for entry in os.scandir(path) if not entry.name.startswith(".") and entry.is_file()}
    return bool(suffixes & SUFFIXES) and not suffixes & set(_TELLING)


def splits(path: Path) -> list[str]:
    return []


def categories(path: Path) -> list[dict]:
    return []


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a picture, in it and below, in natural order."""
    from cvtool.data.inputs import walk

    path = Path(path)
    if not path.is_dir():
        raise InputError("no such folder", where=path)
    for picture in walk(str(path)):
        record = Record(file_name=picture)
        record.root = str(path)
        yield record


def write(records: Iterable[Record], out: Path, *, copy_images: bool = False, **options: object) -> list[str]:
    """Links to the pictures (or copies) in one folder."""
    out, names = Path(out), Names()
    lost = dict.fromkeys(("label", "object", "picture"), 0)
    for record in records:
        lost["label"] += len(record.get("labels") or ())
        lost["object"] += len(record.get("annotations") or ())
        lost["picture"] += not place(record, out / names.take(record), copy=copy_images)
    notes = names.note()
    if lost["label"] or lost["object"]:
        said = " and ".join(count(lost[key], key) for key in ("label", "object") if lost[key])
        notes.append(f"a folder of pictures says nothing of them: {said} left out")
    if lost["picture"]:
        notes.append(f"{count(lost['picture'], 'picture')} not found")
    return notes
