"""Class folders: CLASS/picture, or SPLIT/CLASS/picture; the folder's name is the label of the whole picture.

Classes are numbered from 1 in the order of their names, over all splits. A class folder without a picture is a class all the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from cvtool.data.formats._files import count, place
from cvtool.data.names import Names
from cvtool.errors import InputError
from cvtool.records import Record

DESCRIPTION = "class folders: CLASS/*.jpg or SPLIT/CLASS/*.jpg"
SUFFIX = None
ORDER = 70
HOLDS = {"file_name", "width", "height", "annotations", "labels", "split"}
SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
# folders that other formats put beside each other, and that are no classes
_WORDS = {
    "images",
    "image",
    "imgs",
    "img",
    "labels",
    "label",
    "masks",
    "mask",
    "annotations",
    "annotation",
    "jpegimages",
    "imagesets",
    "gt",
    "rgb",
    "depth",
}


def recognises(path: Path) -> bool:
    if not path.is_dir():
        return False
    counts = [_filled(folder) for folder in _split_folders(path) or [path]]
    return min(counts) > 0 and max(counts) > 1


def only_class(path: Path) -> str | None:
    """The one class folder that has pictures, where a folder would be a data set if there were another; for a message."""
    if not path.is_dir() or [_filled(folder) for folder in _split_folders(path) or [path]] != [1]:
        return None
    from cvtool.data.inputs import walk

    folders = _folders(next(iter(_split_folders(path)), path))
    return next(str(folder) for folder in folders if next(walk(str(folder)), None) is not None)


def _folders(path: Path) -> list[Path]:
    from cvtool.data.inputs import natural

    found = (Path(entry.path) for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
    return sorted(found, key=lambda folder: natural(folder.name))


def _split_folders(path: Path) -> list[Path]:
    """The split folders, if the folder holds nothing but splits."""
    folders = _folders(path)
    return folders if folders and all(folder.name.lower() in SPLITS for folder in folders) else []


def _filled(path: Path) -> int:
    """How many class folders with pictures there are, 2 at most; 0 where a folder's name says that it is none."""
    from cvtool.data.inputs import walk

    folders = _folders(path)
    if any(folder.name.lower() in _WORDS or folder.name.lower().endswith(("annot", "_masks")) for folder in folders):
        return 0
    with_pictures = (folder for folder in folders if next(walk(str(folder)), None) is not None)
    return sum(1 for _ in islice(with_pictures, 2))


def splits(path: Path) -> list[str]:
    return [folder.name for folder in sorted(_split_folders(Path(path)), key=lambda folder: SPLITS.index(folder.name.lower()))]


def categories(path: Path) -> list[dict]:
    path = Path(path)
    names = {folder.name for part in _split_folders(path) or [path] for folder in _folders(part)}
    return [{"id": i, "name": name} for i, name in enumerate(sorted(names), 1)]


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a picture, with `labels`: its folder. Pictures deeper down belong to the class folder above them."""
    from cvtool.data.inputs import walk

    path = Path(path)
    if not path.is_dir():
        raise InputError("no such folder", where=path)
    known = splits(path)
    if split is not None and split not in known:
        raise InputError(f"no split '{split}'", where=path, hint="its splits: " + (", ".join(known) or "none"))
    table = categories(path)
    ids = {category["name"]: category["id"] for category in table}
    dataset = {"categories": table, "path": str(path)}
    for name in [split] if split is not None else known or [None]:  # type: ignore[list-item]
        for folder in _folders(path / name if name is not None else path):
            for picture in walk(str(folder)):
                record = Record(file_name=picture)
                record.dataset, record.root = dataset, str(path)
                if name is not None:
                    record["split"] = name
                record["labels"] = [{"category_id": ids[folder.name], "category": folder.name}]
                yield record


def write(records: Iterable[Record], out: Path, *, split: str | None = None, copy_images: bool = False, **options: object) -> list[str]:
    """Links to the pictures (or copies), sorted into folders by the first of their labels."""
    out = Path(out)
    lost = dict.fromkeys(("label", "picture", "object", "more", "ids"), 0)
    names: dict[Path, Names] = {}
    seen: dict[str, object] = {}
    for record in records:
        lost["object"] += len(record.get("annotations") or ())
        labels = record.get("labels") or []
        if not labels:
            lost["label"] += 1
            continue
        lost["more"] += len(labels) > 1
        name = str(labels[0].get("category", f"class{labels[0].get('category_id')}"))
        seen.setdefault(name, labels[0].get("category_id"))
        part = record.get("split") or split
        safe = name.replace("/", "_").replace("\\", "_").lstrip(".") or "_"
        if part is not None and (part == ".." or Path(str(part)).name != part):
            raise InputError(f"the split's name '{part}' is no file name")
        folder = out / str(part) / safe if part else out / safe
        lost["picture"] += not place(record, folder / names.setdefault(folder, Names()).take(record), copy=copy_images)
    if lost["label"] and not seen:
        raise InputError("no picture has a label of its own", hint="class folders hold classification data; for objects use coco, voc, yolo or csv")
    notes = [note for name in names.values() for note in name.note()]
    if lost["label"]:
        notes.append(f"{count(lost['label'], 'picture')} without a label left out")
    if lost["object"]:
        notes.append(f"class folders hold labels of whole pictures only: {count(lost['object'], 'object')} left out")
    if lost["more"]:
        notes.append(f"{count(lost['more'], 'picture')} with several labels written under the first")
    if lost["picture"]:
        notes.append(f"{count(lost['picture'], 'picture')} not found")
    if [seen[name] for name in sorted(seen)] != list(range(1, len(seen) + 1)):
        notes.append("class folders hold no category ids: they read back as 1, 2, 3, ... in the order of the names")
    return notes
