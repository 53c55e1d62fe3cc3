"""Label maps alone: a PNG a picture, named after it, whose pixel values are category ids; classes.txt names them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from cvtool.data.formats import masks
from cvtool.errors import InputError
from cvtool.records import Record

DESCRIPTION = "label maps alone, a PNG a picture (to write; `masks` reads them beside their pictures)"
SUFFIX = None
ORDER = 51
HOLDS, HOLDS_OF_OBJECTS = masks.HOLDS - {"split"}, masks.HOLDS_OF_OBJECTS


def recognises(path: Path) -> bool:
    """Never: a folder of PNGs is a folder of pictures."""
    return False


def splits(path: Path) -> list[str]:
    return []


def categories(path: Path) -> list[dict]:
    listed = Path(path) / "classes.txt"
    if not listed.is_file():
        raise InputError("no classes.txt beside the label maps", where=path)
    return masks._named(listed)


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a map. Its picture is the one of the same stem in `images`, where that is given, else not known: the map's own name stands in."""
    from cvtool.data.inputs import walk

    by_stem = {os.path.splitext(os.path.basename(file))[0]: file for file in walk(str(images))} if images is not None else {}
    dataset = {"categories": categories(path), "path": str(path)}
    for file in walk(str(path)):
        record = Record(file_name=by_stem.get(os.path.splitext(os.path.basename(file))[0], file), segmentation_map=file)
        record.dataset = dataset
        yield record


def write(records: Iterable[Record], out: Path, **options: object) -> list[str]:
    """OUT/STEM.png and OUT/classes.txt."""
    out = Path(out)
    return masks.write_maps(list(records), out, lambda record, stem, suffix: out / f"{stem}.png")
