"""The two sides of an evaluation, ground truth and detections, read from whatever holds them into one shape.

| what | how it is told apart |
| --- | --- |
| COCO results | a JSON array of `{"image_id", "category_id", "score", ...}` |
| COCO document | a JSON object with a list `images`; as detections its annotations carry scores |
| records | JSON lines, from a file or stdin |
| any other data set | `cvtool.data.formats` recognises it (VOC, YOLO, CSV ...); the pictures themselves are not opened here |

Reading is lenient where `cvtool.tasks.evaluate` can repair or explain, so that its message names the cause and not the symptom.
"""

from __future__ import annotations

import gc
import inspect
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cvtool.errors import InputError, UsageError

MAX_BYTES = 4 * 1024**3
SMALL = 64 * 1024**2  # read without asking how much memory there is
GROWTH = 15  # times its size, the memory of a file as Python objects; measured of COCO results of boxes
_LINES = (".jsonl", ".ndjson")


class PanopticError(InputError):
    """A panoptic file where objects were expected."""


@dataclass
class Side:
    """Images and what was marked or found in them.

    images: `{"id"?, "file_name"?, "width"?, "height"?}` each. entries: COCO annotations or results as they stand, never changed here.
    owners: for each entry the position of its image in `images`, -1 where the file names an image that its own table lacks.
    labels: of each image its class labels, best first; maps: of each image the path of its label map, if it has one; void: the values in
    maps that are no class, None where all that are no category are void. given: the images as the file has them, with all keys; empty where it has
    no table. categories: what the side itself declares, maybe nothing. ids: "source" if image ids may be the data set's own, "collected" if a
    writer numbered the images, so that they mean nothing to another file.
    """

    where: str
    kind: str  # "results", "document" or "records"
    images: list[dict] = field(default_factory=list)
    entries: list[dict] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    categories: list[dict] = field(default_factory=list)
    ids: str = "source"
    failed: list[str] = field(default_factory=list)  # images that a record reports as unreadable
    splits: list[str] = field(default_factory=list)  # of the data set, where it was read whole although it has some
    labels: list[list[dict]] = field(default_factory=list)
    maps: list[str | None] = field(default_factory=list)
    void: list[int] | None = None
    given: list[dict] = field(default_factory=list)

    @property
    def task(self) -> str:
        """What it holds: "detection" (objects), "classification" (class labels alone) or "segmentation" (label maps)."""
        if any(self.maps):
            return "segmentation"
        return "classification" if any(self.labels) and not self.entries else "detection"

    def name(self, i: int) -> str:
        """Entry `i` for a message."""
        if self.kind == "results":
            return f"{self.where}: entry {i} of the array (counted from 0)"
        owner = self.owners[i]
        label = image_name(self.images[owner]) if owner >= 0 else "an unknown image"
        return f"{self.where}: annotations[{i}] ({label})" if self.kind == "document" else f"{self.where}: an annotation of {label}"


def image_name(image: dict) -> str:
    """An image for a message: its file name, else its id."""
    return str(image.get("file_name") or f"image {image.get('id')!r}")


def read_truth(source: str | os.PathLike, *, split: str | None = None, data_format: str | None = None, stdin: IO[bytes] | None = None) -> Side:
    """Ground truth. Raises InputError where the file cannot be read or holds no ground truth."""
    kind, value, where = _load(source, split=split, data_format=data_format, stdin=stdin)
    if kind == "results":
        scored = any(isinstance(e, dict) and "score" in e for e in value[:5])
        hint = "these look like detections: are --gt and --dt swapped?" if scored else "ground truth is a COCO document, a data set or JSON lines"
        raise InputError("the ground truth is a bare JSON array, which names no images and no categories", where=where, hint=hint)
    side = _document(value, where) if kind == "document" else _records(value, where)
    if split is None and kind == "records" and where != "stdin" and Path(where).suffix.lower() not in _LINES:
        side.splits = _splits(Path(where), data_format)
    if side.failed:
        raise InputError(f"the ground truth has an image that could not be read: {side.failed[0]}", where=where)
    if not side.images:
        raise InputError("the ground truth has no images", where=where)
    return side


def read_found(source: str | os.PathLike, *, data_format: str | None = None, stdin: IO[bytes] | None = None) -> Side:
    """Detections, labels or maps. Raises InputError where the file cannot be read; whether entries are complete is checked later."""
    path = Path(os.fspath(source))
    if data_format is None and os.fspath(source) != "-" and (_only_maps(path) or (path.is_file() and path.suffix.lower() == ".png")):
        return _maps(path)
    kind, value, where = _load(source, data_format=data_format, stdin=stdin)
    if kind == "results":
        return _results(value, where)
    return _document(value, where) if kind == "document" else _records(value, where)


# --- telling apart ---------------------------------------------------------------------------------------------------------------------------


def _load(source: Any, *, split: str | None = None, data_format: str | None = None, stdin: IO[bytes] | None = None) -> tuple[str, Any, str]:
    """(kind, parsed value or records, name for messages)."""
    text = os.fspath(source)
    if text == "-":
        return _sniff((stdin or sys.stdin.buffer).read(MAX_BYTES + 1), "stdin", lines=False)
    path = Path(text)
    if not path.exists() and "{" not in path.name:  # a pattern of shards
        raise InputError("no such file or folder", where=path)
    if path.is_dir() and not any(os.scandir(path)):
        raise InputError("the folder is empty", where=path)
    suffix = path.suffix.lower()
    plain = path.is_file() and suffix in (".json", *_LINES) and data_format in (None, "coco", "coco-results", "jsonl")
    if plain and split is None:
        if (size := path.stat().st_size) > (limit := room(GROWTH)):
            hint = "evaluate it in parts, or as plain COCO results against plain COCO ground truth, which take half as much"
            raise InputError(f"the file has {size:,} bytes, more than the {limit:,} that there is memory for", where=path, hint=hint)
        return _sniff(path.read_bytes(), str(path), lines=suffix in _LINES)
    if plain:
        raise UsageError(f"--split {split} has no effect on one file", hint="a COCO or JSON-lines file is one split by itself")
    from cvtool.data import formats

    module = formats.get(data_format or formats.recognise(path))
    known = module.splits(path)
    if split is not None and split not in known:
        raise UsageError(f"{path} has no split '{split}'", hint=f"its splits: {', '.join(known)}" if known else "it has no splits")
    as_written = {"resolve": False} if "resolve" in inspect.signature(module.read).parameters else {}  # no picture is opened, wherever it is
    return "records", module.read(path, split=split, **as_written), str(path)


def room(growth: int) -> int:
    """The largest JSON file that is read whole, in bytes, where reading it takes `growth` times as much memory."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        return MAX_BYTES
    return min(MAX_BYTES, max(free // growth, SMALL))


def _splits(path: Path, data_format: str | None) -> list[str]:
    from cvtool.data import formats

    return formats.get(data_format or formats.recognise(path)).splits(path)


def _sniff(data: bytes, where: str, *, lines: bool) -> tuple[str, Any, str]:
    if len(data) > MAX_BYTES:
        raise InputError(f"more than {MAX_BYTES:,} bytes", where=where)
    data = data.removeprefix(b"\xef\xbb\xbf")
    head = data[:1024].lstrip()[:1]
    if not head:
        hint = "the program before the pipe wrote nothing; its own message says why" if where == "stdin" else "an empty result is []"
        raise InputError("the file is empty" if where != "stdin" else "stdin is empty", where=None if where == "stdin" else where, hint=hint)
    if lines or (head == b"{" and _starts_with_object(data)):
        return "records", _lines_of(data, where), where
    value = _json(data, where)
    if isinstance(value, list):
        return "results", value, where
    if isinstance(value, dict) and isinstance(value.get("images"), list):
        return "document", value, where
    if isinstance(value, dict) and value.keys() & {"annotations", "file_name"}:
        return "records", _lines_of(json.dumps(value).encode(), where), where
    hint = "give a COCO document (images, annotations, categories), COCO results (an array) or JSON lines"
    raise InputError("neither a COCO document nor COCO results: there is no list 'images'", where=where, hint=hint)


def _lines_of(data: bytes, where: str) -> Iterator[Any]:
    from cvtool.records import read_lines

    return read_lines(io.BytesIO(data), name=where)


def _starts_with_object(data: bytes) -> bool:
    """Whether the first of several lines is a JSON object by itself."""
    line, _, rest = data.lstrip().partition(b"\n")
    if not line.rstrip().endswith(b"}") or not rest.strip():
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _json(data: bytes, where: str) -> Any:
    """The value; NaN and Infinity pass as floats, so that the check can name the entry that holds them."""
    try:
        with no_collection():
            return json.loads(data)
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error.msg}", where=f"{where}, line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise InputError("the JSON is nested too deeply", where=where) from error
    except (ValueError, MemoryError) as error:
        raise InputError(f"not valid JSON: {error}", where=where) from error


@contextmanager
def no_collection() -> Iterator[None]:
    """Without the garbage collector, which would walk over millions of new objects again and again: half of the time of parsing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# --- the three shapes ------------------------------------------------------------------------------------------------------------------------


def _results(entries: list, where: str) -> Side:
    side = Side(where, "results", entries=entries)
    positions: dict[Any, int] = {}
    named: dict[Any, str] = {}
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"entry {i} of the array is no object", where=where)
        identity, name = entry.get("image_id"), entry.get("file_name")
        if identity is None and name is None:
            raise InputError("a detection without image_id", where=f"{where}: entry {i} of the array (counted from 0)")
        key = (type(identity) is str, identity) if identity is not None else ("", name)
        if not isinstance(identity, (int, str, float, type(None))):
            raise InputError(f"image_id is neither a number nor text: {identity!r}", where=f"{where}: entry {i} of the array (counted from 0)")
        position = positions.get(key)
        if position is None:
            position = positions[key] = len(side.images)
            image = {} if identity is None else {"id": _whole(identity)}
            side.images.append(image | ({"file_name": name} if isinstance(name, str) else {}))
        side.owners.append(position)
        if "category" in entry and entry.get("category_id") not in named:
            named[entry.get("category_id")] = str(entry["category"])
    side.categories = [{"id": key, "name": name} for key, name in named.items() if key is not None]
    return side


def _document(value: dict, where: str) -> Side:
    info = value.get("info")
    side = Side(where, "document", ids="collected" if isinstance(info, dict) and info.get("image_ids") == "collected" else "source")
    side.images = [_image(entry, f"{where}: images[{i}]") for i, entry in enumerate(value["images"])]
    side.given = value["images"]
    side.categories = _categories(value.get("categories") or [], where)
    entries = value.get("annotations") or []
    if not isinstance(entries, list):
        raise InputError("'annotations' is not a list", where=where)
    positions = {image.get("id"): i for i, image in reversed(list(enumerate(side.images)))}
    as_text = {str(key): i for key, i in positions.items()}
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"annotations[{i}] is no object", where=where)
        if "segments_info" in entry:
            hint = "panoptic files hold segments, not objects with boxes: convert them to COCO's detection format first"
            raise PanopticError("a panoptic file (segments_info)", where=where, hint=hint)
        identity = entry.get("image_id")
        if not isinstance(identity, (int, float, str)):
            raise InputError(f"annotations[{i}].image_id is missing or no number", where=where)
        side.owners.append(positions.get(_whole(identity), as_text.get(str(identity), -1)))
    side.entries = entries
    return side


def _records(records: Iterable[Any], where: str) -> Side:
    from cvtool.records import Record, collect_categories

    side = Side(where, "records")
    table: dict[Any, dict] = {}
    seen: set[int] = set()
    for record in records:
        record = record if isinstance(record, Record) else Record(record)
        collect_categories(record, table, seen)
        if record.failed:
            side.failed.append(f"{record.name}: {record['error']}")
        if record.dataset and (record.dataset.get("info") or {}).get("image_ids") == "collected":
            side.ids = "collected"
        position = len(side.images)
        side.images.append(_image(record, where))
        side.given.append(record)
        for entry in record.get("annotations") or ():
            side.entries.append(entry)
            side.owners.append(position)
        side.labels.append(list(record.get("labels") or ()))
        side.maps.append(record.get("segmentation_map"))
        if record.dataset and "void" in record.dataset:
            side.void = record.dataset["void"]
    side.categories = list(table.values())
    return side


def _only_maps(path: Path) -> bool:
    """A folder of PNGs and no more than a table of classes beside them, as `cvtool segment -f png -o DIR/` writes them."""
    if not path.is_dir():
        return False
    names = [entry.name for entry in os.scandir(path) if not entry.name.startswith(".")]
    return any(name.lower().endswith(".png") for name in names) and all(name.lower().endswith((".png", ".txt")) for name in names)


def _maps(path: Path) -> Side:
    """A folder of label maps, named after their pictures, or one label map."""
    from cvtool.data.formats import png

    side = Side(str(path), "records")
    side.categories = png.categories(path) if (path / "classes.txt").is_file() else []
    names = sorted(entry.path for entry in os.scandir(path)) if path.is_dir() else [str(path)]
    for name in names:
        if name.lower().endswith(".png"):
            side.images.append({"file_name": name})
            side.labels.append([])
            side.maps.append(name)
    return side


def read_true_maps(source: str | os.PathLike) -> Side | None:
    """Ground truth that is label maps and nothing else, a folder of them or one; None where it is something else.

    The classes are those of classes.txt, in the folder or beside it; without one, the values found in the maps but 255. Raises InputError.
    """
    path = Path(source)
    if os.fspath(source) == "-" or not (_only_maps(path) or (path.is_file() and path.suffix.lower() == ".png")):
        return None
    from cvtool.data.formats import masks

    side = _maps(path)
    folder = next((folder for folder in (path, path.parent) if (folder / "classes.txt").is_file()), None)
    side.categories = masks.categories(folder) if folder is not None else masks.counted(str(name) for name in side.maps)
    side.void = masks.void(folder) if folder is not None else None
    return side


def _image(entry: Any, where: str) -> dict:
    if not isinstance(entry, dict):
        raise InputError("not an object", where=where)
    image = {key: entry[key] for key in ("file_name", "width", "height") if entry.get(key) is not None}
    if entry.get("id") is not None:
        image["id"] = _whole(entry["id"])
        if not isinstance(image["id"], (int, str)) or isinstance(image["id"], bool):
            raise InputError(f"an image's id is neither a whole number nor text: {entry['id']!r}", where=where)
    elif not isinstance(image.get("file_name"), str):
        raise InputError("an image without id and file_name", where=where)
    return image


def _categories(entries: Any, where: str) -> list[dict]:
    table = {}
    for i, entry in enumerate(entries if isinstance(entries, list) else [None]):
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), (int, str)):
            raise InputError(f"categories[{i}] is no object with an id", where=where)
        if entry["id"] in table:
            raise InputError(f"two categories have the id {entry['id']!r}", where=where)
        table[entry["id"]] = entry
    return list(table.values())


def _whole(identity: Any) -> Any:
    """12.0 is 12: some writers go through arrays of floats."""
    return int(identity) if isinstance(identity, float) and identity.is_integer() else identity
