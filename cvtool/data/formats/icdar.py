"""ICDAR's regions of text: a picture a text file, a region a line, `x1,y1,x2,y2,x3,y3,x4,y4,text`; `###` is a region that need not be found.

A folder with `gt/gt_img_1.txt` ... and `images/img_1.jpg` ..., or both in folders of other names (as ICDAR 2015 has them), or train/, val/, test/
of such.
Lines of four numbers (`x1,y1,x2,y2,text` or, with blanks, `x1 y1 x2 y2 "text"`, as ICDAR 2013 has them) are upright boxes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from cvtool.data.formats._files import count, opened_text
from cvtool.data.formats._words import CATEGORY, SPARED, SPLITS, Placed, by_stem, corners, word
from cvtool.errors import InputError
from cvtool.records import Record

DESCRIPTION = "ICDAR: gt/gt_NAME.txt of x1,y1,...,x4,y4,text beside images/"
SUFFIX = None
ORDER = 32
HOLDS = {"file_name", "width", "height", "annotations", "split", "text"}
HOLDS_OF_OBJECTS = {"bbox", "segmentation", "area", "category", "category_id", "iscrowd", "text", "id"}
_NUMBER = r"\s*[+-]?\d+(?:\.\d*)?\s*"
_EIGHT = re.compile(rf"({_NUMBER}(?:,{_NUMBER}){{7}})(?:,(.*))?")
_FOUR = re.compile(rf"({_NUMBER}(?:,{_NUMBER}){{3}})(?:,\s*(.*))?")
_BLANKS = re.compile(r"((?:\d+\s+){3}\d+)\s+(.*)")


def recognises(path: Path) -> bool:
    return path.is_dir() and any(_files(folder) for folder in _parts(path).values())


def splits(path: Path) -> list[str]:
    return [name for name in _parts(Path(path)) if name]


def categories(path: Path) -> list[dict]:
    return [dict(CATEGORY)]


def _parts(path: Path) -> dict[str, Path]:
    """Part ("" where there are none) -> its folder."""
    found = {name: folder for name in SPLITS if (folder := path / name).is_dir() and _files(folder)}
    return found or {"": path}


def _files(path: Path) -> list[Path]:
    """The gt_*.txt of a folder, or of the first folder in it that has some, in natural order."""
    from cvtool.data.inputs import natural

    for folder in (path, path / "gt", *sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))):
        names = sorted((e.name for e in os.scandir(folder) if re.fullmatch(r"gt_.+\.txt", e.name)), key=natural) if folder.is_dir() else []
        if names:
            return [folder / name for name in names]
    return []


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a text file. Raises InputError naming the file and the line."""
    path = Path(path)
    parts = _parts(path)
    if split is not None and split not in parts:
        raise InputError(f"no split '{split}'", where=path, hint="its splits: " + (", ".join(name for name in parts if name) or "none"))
    dataset = {"categories": categories(path), "path": str(path)}
    for name, folder in parts.items():
        if split not in (None, name):
            continue
        files = _files(folder)
        if not files:
            raise InputError("no gt_NAME.txt in it", where=folder)
        others = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        pictures = by_stem(Path(images)) if images is not None else by_stem(folder / "images", files[0].parent, folder, *others)
        for file in files:
            stem = file.stem.removeprefix("gt_")
            expected = str((Path(images) if images is not None else folder / "images") / f"{stem}.jpg")
            record = Record(file_name=pictures.get(stem, expected), annotations=regions(file))
            record.dataset, record.root = dataset, str(images or folder)
            if name:
                record["split"] = name
            yield record


def regions(file: Path) -> list[dict]:
    """The annotations of one text file. Raises InputError."""
    with opened_text(file) as stream:
        try:
            lines = stream.read().decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError("not UTF-8 text", where=file) from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _EIGHT.fullmatch(line) or _FOUR.fullmatch(line) or _BLANKS.fullmatch(line.strip())
        if match is None:
            raise InputError("neither eight nor four numbers and a text, with commas between", where=f"{file}, line {number}")
        values = [float(v) for v in match[1].replace(",", " ").split()]
        text = match[2]
        if len(values) == 4:
            x0, y0, x1, y1 = values
            values = [x0, y0, x1, y0, x1, y1, x0, y1]
            text = text.strip().removeprefix('"').removesuffix('"') if text is not None else None
        found.append(word(values, text, spared=text == SPARED))
    return found


def write(records: Iterable[Record], out: Path, *, copy_images: bool = False, **options: object) -> list[str]:
    """OUT/images/NAME and OUT/gt/gt_NAME.txt, with parts in OUT/PART/; corners in whole pixels."""
    placed = Placed(copy=copy_images)
    lost = dict.fromkeys(("shape", "region without a text", "score"), 0)
    for record in records:
        folder = Path(out) / str(record.get("split") or "")
        name = placed.put(record, folder / "images")
        lines = []
        for annotation in record.get("annotations") or ():
            if (quad := corners(annotation)) is None:
                continue
            shape = annotation.get("segmentation")
            lost["shape"] += bool(shape) and not (isinstance(shape, list) and len(shape) == 1 and len(shape[0]) == 8)
            lost["score"] += "score" in annotation
            text = annotation.get("text")
            lost["region without a text"] += text is None and not annotation.get("iscrowd")
            said = SPARED if annotation.get("iscrowd") else "" if text is None else " ".join(text.split())
            lines.append(",".join([*(str(round(v)) for v in quad), said]) + "\n")
        file = folder / "gt" / f"gt_{Path(name).stem}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(lines), encoding="utf-8")
    words = {
        "shape": "a region is four corners: the boxes of {} of other shapes stand for them", "region without a text": "{}",
        "score": "regions have no scores here: {} left out",
    }  # fmt: skip
    return placed.notes() + [words[key].format(count(number, key)) for key, number in lost.items() if number]
