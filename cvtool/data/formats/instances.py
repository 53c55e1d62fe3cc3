"""Pictures with instance maps: a gray PNG a picture whose pixels hold 0 outside of objects and each object's own number, 1..N, on it.

Layouts as in `masks`. Such maps have 16 bits, for more than 255 objects, and no table of classes: that tells them from label maps, whose values are
classes. All objects are of one category: the one in classes.txt, else the data set's folder names it where it has splits, else "object".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvtool.data.formats import masks
from cvtool.data.formats._files import count, output_text, place
from cvtool.data.names import Names
from cvtool.errors import InputError
from cvtool.records import Record, categories_of

if TYPE_CHECKING:
    import numpy as np

DESCRIPTION = "pictures and instance maps: images/ and labels/, 16-bit PNGs that number the objects"
SUFFIX = None
ORDER = 49
HOLDS = {"file_name", "width", "height", "annotations", "split"}
HOLDS_OF_OBJECTS = {"segmentation", "bbox", "area"}
LOOKS = 8  # maps whose depth is looked at
MOST = 65535


def recognises(path: Path) -> bool:
    return path.is_dir() and "instances" in kinds(path)


def kinds(path: Path) -> set[str]:
    """What the first maps of a folder are by their depth, "instances" or "masks"; both where depths are mixed. A table of several classes,
    or of one with a number of its own, speaks for label maps."""
    from PIL import Image

    if not (masks._lists(path) or masks._pairs(path)):
        return set()
    if len(named := declared(path)) > 1 or (named and named[0]["id"] > 1):
        return {"masks"}
    found = set()
    for _, name, _ in islice(masks._all(path, None, None), LOOKS):
        try:
            with Image.open(name) as image:
                found.add("instances" if image.mode.startswith("I") else "masks")
        except OSError:  # missing or no picture: reading it will tell
            continue
    return found or {"masks"}


def declared(path: Path) -> list[dict]:
    """The categories of classes.txt; [] without one."""
    return next((masks._named(path / name) for name in ("classes.txt", "labels.txt") if (path / name).is_file()), [])


def splits(path: Path) -> list[str]:
    return masks.splits(path)


def categories(path: Path) -> list[dict]:
    path = Path(path)
    if len(named := declared(path)) > 1:
        raise InputError(f"an instance map holds objects of one category, and {len(named)} are named", where=path, hint="--data-format masks")
    folder = os.path.basename(os.path.abspath(path)) if any(splits(path)) else ""
    return [{"id": 1, "name": named[0]["name"] if named else folder or "object"}]


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a picture that has a map, an annotation an object in the order of their numbers: mask, box, area. Raises InputError."""
    from cvtool import images as pictures

    path = Path(path)
    if not path.is_dir():
        raise InputError("no such folder", where=path)
    known = splits(path)
    if split is not None and split not in known:
        raise InputError(f"no split '{split}'", where=path, hint="its splits: " + (", ".join(known) or "none"))
    table = categories(path)
    (category,), dataset = table, {"categories": table, "path": str(path)}
    for picture, name, part in masks._all(path, images, split):
        values = pictures.labels(name)
        height, width = values.shape
        own = {"category_id": category["id"], "category": category["name"], "iscrowd": 0}
        record = Record(file_name=picture, width=width, height=height, annotations=[entry | own for entry in objects(values)])
        record.dataset, record.root = dataset, str(images or path)
        if part:
            record["split"] = part
        yield record


def objects(values: np.ndarray) -> Iterator[dict[str, Any]]:
    """An H W map's objects by number: `segmentation` (compressed RLE), `bbox`, `area`. One pass over the map, however many objects there are."""
    import numpy as np
    from pycocotools import mask as coco

    height, width = values.shape
    flat = values.T.reshape(-1)  # column by column, as RLE counts
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    lengths = np.diff(starts, append=len(flat))
    numbers = flat[starts]
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else []
    for runs in groups:
        if numbers[runs[0]] == 0:
            continue
        first, size = starts[runs], lengths[runs]
        ends = first + size
        gaps = first - np.concatenate([[0], ends[:-1]])
        counts = np.stack([gaps, size], 1).reshape(-1).tolist()
        if (rest := len(flat) - int(ends[-1])) > 0:
            counts.append(rest)
        encoded = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        box = [float(value) for value in coco.toBbox(encoded)]
        yield {"bbox": box, "segmentation": {"size": [height, width], "counts": encoded["counts"].decode("ascii")}, "area": int(size.sum())}


def write(records: Iterable[Record], out: Path, *, split: str | None = None, copy_images: bool = False, **options: object) -> list[str]:
    """images/[SPLIT/] with links to the pictures (or copies), labels/[SPLIT/]*.png and classes.txt. Later objects cover earlier ones."""
    import numpy as np

    from cvtool.data.formats import _polygons

    out, listed, names = Path(out), list(records), Names()
    lost = dict.fromkeys(("picture", "size", "mask", "crowd"), 0)
    used: set[Any] = set()
    for record in listed:
        stem, suffix = os.path.splitext(names.take(record))
        part = str(record.get("split") or split or "")
        if part and (part == ".." or Path(part).name != part):
            raise InputError(f"the split's name '{part}' is no file name")
        lost["picture"] += not place(record, out / "images" / part / (stem + (suffix or ".jpg")), copy=copy_images)
        try:
            width, height = record.size()
            _polygons.bounded(width, height)
        except InputError:
            lost["size"] += 1
            continue
        every = record.get("annotations") or ()
        found = [entry for entry in every if entry.get("segmentation") and not entry.get("iscrowd")]
        crowds = sum(bool(entry.get("iscrowd")) for entry in every)
        lost["crowd"] += crowds
        lost["mask"] += len(every) - len(found) - crowds
        if len(found) > MOST:
            raise InputError(f"an instance map holds {MOST:,} objects at most, not {len(found):,}", where=record.name)
        values = np.zeros((height, width), dtype=np.uint16)
        for number, entry in enumerate(found, 1):
            values[_polygons.mask(entry["segmentation"], width, height).astype(bool)] = number
            used.add(entry.get("category_id"))
        masks._save(values, out / "labels" / part / f"{stem}.png")
    table = {category["id"]: category["name"] for category in categories_of(listed)}
    if len(used) == 1 or len(table) == 1:
        with output_text(out / "classes.txt") as stream:
            stream.write(f"1 {table.get(next(iter(used or table)), 'object')}\n")
    notes = names.note()
    if lost["picture"]:
        notes.append(f"{count(lost['picture'], 'picture')} not found, so images/ lacks them (--images DIR says where they are)")
    if lost["mask"]:
        notes.append(f"{count(lost['mask'], 'annotation')} without a mask left out")
    if lost["crowd"]:
        notes.append(f"{count(lost['crowd'], 'crowd region')} left out: instance maps hold single objects")
    if lost["size"]:
        notes.append(f"the size of {count(lost['size'], 'picture')} is not known, so there is no map of them")
    if len(used) > 1:
        notes.append(f"instance maps hold one category: {len(used)} became one")
    return notes
