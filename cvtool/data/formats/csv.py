"""CSV: one row an object, for spreadsheets and data frames; a picture without objects is a row with an empty box.

Written: file_name, image_id, category_id, category, x, y, width, height, score, iscrowd, image_width, image_height, split, and, where the first
picture has a text or words, `text`: a word's, or the whole picture's where it has no words. Read: the same, and the shape that many tools write,
`filename, width, height, class, xmin, ymin, xmax, ymax`, whose corners are taken as 0-based edges (w = xmax - xmin). Rows of one picture need not
stand together. A row with a category and no box is a label of the whole picture, so `file,label` is a data set of classes; labels that are all whole
numbers are category ids. Embeddings are a table of their own (`_vector_csv.py`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from cvtool.data.formats import _vector_csv
from cvtool.data.formats._files import count, opened_text, output_text
from cvtool.data.roots import Roots
from cvtool.errors import InputError
from cvtool.records import Record, collect_categories

DESCRIPTION = "CSV, one row an object"
SUFFIX = ".csv"
BESIDE = _vector_csv.BESIDE
ORDER = 60
HOLDS = {"file_name", "id", "width", "height", "annotations", "labels", "split", "text"}
HOLDS_OF_OBJECTS = {"bbox", "category_id", "category", "score", "iscrowd", "text"}
HOLDS_OF_CATEGORIES = {"id", "name"}
COLUMNS = "file_name image_id category_id category x y width height score iscrowd image_width image_height split".split()
_ALIASES = {"filename": "file_name", "image": "file_name", "image_path": "file_name", "path": "file_name", "class": "category", "label": "category"}
_ALIASES |= {"name": "category", "confidence": "score", "conf": "score", "set": "split"}
_ALIASES |= dict.fromkeys(("file", "filepath", "file_path", "image_name", "img", "img_path", "picture"), "file_name")
_ALIASES |= dict.fromkeys(("category_name", "class_name", "label_name"), "category")


def recognises(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() not in (".csv", ".tsv"):
        return False
    try:
        return not _vector_csv.holds(path) and _header(next(iter(_rows(path)), {}).keys()) is not None
    except InputError:
        return False


def splits(path: Path) -> list[str]:
    return sorted({row["split"] for row in _named(path) if row.get("split")})


def categories(path: Path) -> list[dict]:
    """By id where the file has ids or names that are all whole numbers, else numbered from 1 in the order of their names."""
    table: dict[int, str] = {}
    names: set[str] = set()
    for number, row in enumerate(_named(path), 2):
        if row.get("category_id"):
            key = _integer(row["category_id"], "category_id", path, number)
            table.setdefault(key, row.get("category") or f"class{key}")
        elif row.get("category"):
            names.add(row["category"])
    if not table and names and all(name.isascii() and name.isdecimal() for name in names):
        return [{"id": int(name), "name": name} for name in sorted(names, key=int)]
    following = max(table, default=0) + 1
    missing = sorted(names - set(table.values()))
    return [{"id": key, "name": table[key]} for key in sorted(table)] + [{"id": i, "name": name} for i, name in enumerate(missing, following)]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    csv.field_size_limit(1 << 24)
    with opened_text(path) as file:
        text = (line.decode("utf-8-sig", errors="surrogateescape") for line in file)
        reader = csv.DictReader(text, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        try:
            for row in reader:
                yield {(key or "").strip().lower(): (value or "").strip() if not isinstance(value, list) else "" for key, value in row.items()}
        except csv.Error as error:
            raise InputError(f"not valid CSV: {error}", where=f"{path}, line {reader.line_num}") from error


def _header(keys: Iterable[str]) -> dict[str, str] | None:
    """Column -> what it means here, or None where there is no column of file names and nothing said of them."""
    keys = list(keys)
    corners = {"xmin", "ymin", "xmax", "ymax"} <= set(keys)
    meaning = {key: _ALIASES.get(key, key) for key in keys}
    if corners:  # then width and height are the picture's
        meaning |= {"width": "image_width", "height": "image_height"}
    useful = corners or {"x", "y", "width", "height"} <= set(keys) or "category" in meaning.values()
    return meaning if "file_name" in meaning.values() and useful else None


def _named(path: Path) -> Iterator[dict[str, str]]:
    meaning: dict[str, str] | None = None
    for row in _rows(Path(path)):
        if meaning is None:
            meaning = _header(row)
            if meaning is None:
                hint = "needed: file_name (or filename), and x, y, width, height or xmin, ymin, xmax, ymax or category"
                raise InputError("the CSV's first line does not name the columns", where=path, hint=hint)
        yield {meaning.get(key, key): value for key, value in row.items()}


def read(path: Path, *, images: Path | None = None, split: str | None = None, resolve: bool = True) -> Iterator[Record]:
    """A record a file name, in order of first appearance. `resolve=False` leaves the names as written. Raises InputError naming the line."""
    path = Path(path)
    if _vector_csv.holds(path):
        yield from _vector_csv.read(path)
        return
    roots = Roots(path, images) if resolve else None
    table = categories(path)
    ids = {category["name"]: category["id"] for category in table}
    names = {category["id"]: category["name"] for category in table}
    dataset = {"categories": table, "path": str(path)}
    found: dict[str, Record] = {}
    for number, row in enumerate(_named(path), 2):
        where = f"{path}, line {number}"
        if not row.get("file_name"):
            raise InputError("a row without a file name", where=where)
        if split is not None and row.get("split") != split:
            continue
        record = found.get(row["file_name"])
        if record is None:
            record = found[row["file_name"]] = Record()
            record.dataset = dataset
            if row.get("image_id"):
                record["id"] = _integer(row["image_id"], "image_id", path, number)
            if roots is None:
                record["file_name"] = row["file_name"]
            else:
                roots.put(record, row["file_name"], where=where)
            if row.get("image_width") and row.get("image_height"):
                record["width"], record["height"] = (_integer(row[f"image_{side}"], side, path, number) for side in ("width", "height"))
            if row.get("split"):
                record["split"] = row["split"]
            record["annotations"] = []
        box = _box(row, path, number)
        if box is None and not row.get("category") and not row.get("category_id"):
            if row.get("text"):
                record["text"] = row["text"]
            continue
        entry: dict[str, Any] = {}
        key = _integer(row["category_id"], "category_id", path, number) if row.get("category_id") else ids.get(row.get("category", ""))
        if key is None:
            raise InputError("a box without a category", where=where)
        entry |= {"category_id": key, "category": names[key]}
        if row.get("score"):
            entry["score"] = _number(row["score"], "score", path, number)
        if box is None:
            record.setdefault("labels", []).append(entry)
        else:
            crowd = _integer(row["iscrowd"], "iscrowd", path, number) if row.get("iscrowd") else 0
            if row.get("text"):
                entry["text"] = row["text"]
            record["annotations"].append({"bbox": box, **entry, "area": round(box[2] * box[3], 6), "iscrowd": crowd})
    if split is not None and not found:
        raise InputError(f"no split '{split}'", where=path, hint="its splits: " + (", ".join(splits(path)) or "none"))
    yield from found.values()


def _box(row: dict[str, str], path: Path, line: int) -> list[float] | None:
    keys = ("xmin", "ymin", "xmax", "ymax") if "xmin" in row else ("x", "y", "width", "height")
    texts = [row.get(key) or "" for key in keys]
    if not any(texts):
        return None
    a, b, c, d = (_number(text, key, path, line) for text, key in zip(texts, keys, strict=True))
    return [a, b, c, d] if keys[0] == "x" else [a, b, round(c - a, 6), round(d - b, 6)]


def _number(text: str, key: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"{key} is {'missing' if not text else f'no number: {text!r}'}", where=f"{path}, line {line}") from error
    if not abs(value) < 1e300:
        raise InputError(f"{key} is {text}, not a finite number", where=f"{path}, line {line}")
    return value


def _integer(text: str, key: str, path: Path, line: int) -> int:
    value = _number(text, key, path, line)
    if value != int(value):
        raise InputError(f"{key} is no whole number: {text}", where=f"{path}, line {line}")
    return int(value)


def write(records: Iterable[Record], out: Path | IO[str], *, relative: bool = False, **options: object) -> list[str]:
    """One row an object, as the records come. `relative`: the data set's own names, not paths from the current folder."""
    records = iter(records)
    first = next(records, None)
    records = records if first is None else chain([first], records)
    if first is not None and "embedding" in first:
        return _vector_csv.write(records, out)
    lost = {"mask": 0, "keypoints": 0}
    known: dict[Any, dict] = {}
    used: set[Any] = set()
    seen: set[int] = set()
    with output_text(out) as stream:
        texts = first is not None and ("text" in first or any("text" in entry for entry in first.get("annotations") or ()))
        table = csv.DictWriter(stream, COLUMNS + ["text"] * texts, lineterminator="\n", restval="", extrasaction="ignore")
        table.writeheader()
        for record in records:
            collect_categories(record, known, seen)
            used.update(entry.get("category_id") for key in ("annotations", "labels") for entry in record.get(key) or ())
            try:
                size: tuple[Any, Any] = record.size()
            except InputError:
                size = record.get("width") or "", record.get("height") or ""
            common: dict[str, Any] = {
                "file_name": record.name_in_root() if relative else record.get("file_name", ""),
                "image_id": record.get("id", ""),
                "split": record.get("split", ""),
            }
            common |= {"image_width": size[0], "image_height": size[1]}
            rows = 0
            for entry in record.get("annotations") or ():
                lost["mask"] += bool(entry.get("segmentation"))
                lost["keypoints"] += bool(entry.get("keypoints"))
                if entry.get("bbox") is not None:
                    box = dict(zip(("x", "y", "width", "height"), map(_shown, entry["bbox"]), strict=True))
                    table.writerow(common | {k: entry[k] for k in ("category_id", "category", "score", "iscrowd", "text") if k in entry} | box)
                    rows += 1
            for entry in record.get("labels") or ():
                table.writerow(common | {k: entry[k] for k in ("category_id", "category", "score") if k in entry})
                rows += 1
            if not rows:
                table.writerow(common | {k: record[k] for k in ("text", "score") if k in record and "text" in record})
            stream.flush()
    notes = []
    if unused := len(known.keys() - used):
        notes.append(f"CSV names categories beside objects only: {count(unused, 'category')} without an object left out")
    if lost["mask"]:
        notes.append(f"CSV holds boxes only: {count(lost['mask'], 'mask')} left out")
    if lost["keypoints"]:
        notes.append(f"CSV holds boxes only: the keypoints of {count(lost['keypoints'], 'object')} left out")
    return notes


def _shown(value: float) -> float | int:
    return int(value) if value == int(value) else value
