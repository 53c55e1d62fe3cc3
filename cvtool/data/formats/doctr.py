"""docTR's labels.json beside images/: of words `{"img.jpg": "text"}`, of pages `{"img.jpg": {"polygons": [[[x, y] x 4], ...]}}`.

A folder with both, or train/, val/, test/ of such, or the file itself. Polygons may stand in lists by class (`{"words": [...]}`), and a page may say
`typed_words: [{"geometry": [x0, y0, x1, y1], "value": "text"}]` instead.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cvtool.data.formats._files import count, opened_text, output_text
from cvtool.data.formats._words import CATEGORY, SPLITS, Placed, corners, word
from cvtool.data.roots import Roots
from cvtool.errors import InputError
from cvtool.records import Record, parse_json

DESCRIPTION = 'docTR: labels.json of {"img": "text"} or {"img": {"polygons": ...}} beside images/'
SUFFIX = None
ORDER = 12
HOLDS = {"file_name", "width", "height", "annotations", "split", "text"}
HOLDS_OF_OBJECTS = {"bbox", "segmentation", "area", "category", "category_id", "iscrowd", "id"}
NAME = "labels.json"
_FIRST = re.compile(rb'\{\s*"[^"]*\.(?i:png|jpe?g|tiff?|bmp|webp|gif)"\s*:\s*["{]')  # what no COCO document begins with


def recognises(path: Path) -> bool:
    return any(_is_labels(file) for file in _files(path).values())


def splits(path: Path) -> list[str]:
    return [name for name in _files(Path(path)) if name]


def categories(path: Path) -> list[dict]:
    """The one of regions; none where the pictures are words."""
    table = next((_table(file) for file in _files(Path(path)).values()), {})
    return [dict(CATEGORY)] if any(isinstance(value, dict) for value in table.values()) else []


def _files(path: Path) -> dict[str, Path]:
    """Part ("" where there are none) -> its file."""
    if not path.is_dir():
        return {"": path}
    return {name: file for name in SPLITS if (file := path / name / NAME).is_file()} or ({"": path / NAME} if (path / NAME).is_file() else {})


def _is_labels(path: Path) -> bool:
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with opened_text(path) as stream:
        return begins(stream.read(1 << 12))


def begins(head: bytes) -> bool:
    """Whether a JSON file's first bytes are those of such labels."""
    return bool(_FIRST.match(head.lstrip(b"\xef\xbb\xbf \t\r\n")))


def _table(file: Path) -> dict[str, Any]:
    with opened_text(file) as stream:
        found = parse_json(stream.read(), where=str(file))
    if not isinstance(found, dict):
        raise InputError("not an object of names", where=file)
    return found


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a name. Raises InputError naming the entry."""
    path = Path(path)
    files = _files(path)
    if split is not None and split not in files:
        raise InputError(f"no split '{split}'", where=path, hint="its splits: " + (", ".join(name for name in files if name) or "none"))
    if not files:
        raise InputError(f"no {NAME} in it", where=path)
    dataset = {"categories": categories(path), "path": str(path)}
    for part, file in files.items():
        if split not in (None, part):
            continue
        beside = file.parent / "images"
        roots = Roots(file, images if images is not None or not beside.is_dir() else beside)
        for name, said in _table(file).items():
            where = f"{file}: {name}"
            record = Record(text=said) if isinstance(said, str) else Record(annotations=_regions(said, where))
            roots.put(record, name, where=where)
            record.dataset = dataset
            if part:
                record["split"] = part
            yield record


def _regions(said: Any, where: str) -> list[dict[str, Any]]:
    """Annotations of one picture."""
    found = []
    try:
        if "typed_words" in said:
            for entry in said["typed_words"]:
                x0, y0, x1, y1 = map(float, entry["geometry"])
                found.append(word([x0, y0, x1, y0, x1, y1, x0, y1], str(entry["value"])))
            return found
        polygons = said["polygons"]
        for ring in [ring for some in polygons.values() for ring in some] if isinstance(polygons, dict) else polygons:
            quad = [float(v) for point in ring for v in point]
            if len(quad) != 8:
                raise ValueError
            found.append(word(quad, None))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("neither a text nor polygons of four corners", where=where) from error
    return found


def write(records: Iterable[Record], out: Path, *, copy_images: bool = False, **options: object) -> list[str]:
    """OUT/labels.json and OUT/images/NAME, with parts in OUT/PART/. A picture with annotations has polygons, another its text."""
    out, placed = Path(out), Placed(copy=copy_images)
    tables: dict[Path, dict[str, Any]] = {}
    lost = dict.fromkeys(("picture without a text", "text", "spared region"), 0)
    for record in records:
        text, regions = record.get("text"), record.get("annotations")
        if not isinstance(text, str) and regions is None:
            lost["picture without a text"] += 1
            continue
        folder = out / str(record.get("split") or "")
        name = placed.put(record, folder / "images")
        if regions is None:
            tables.setdefault(folder, {})[name] = text
            continue
        quads = [quad for a in regions if not a.get("iscrowd") and (quad := corners(a)) is not None]
        lost["spared region"] += sum(bool(a.get("iscrowd")) for a in regions)
        lost["text"] += sum(a.get("text") is not None and not a.get("iscrowd") for a in regions)
        entry: dict[str, Any] = {"polygons": [[quad[i : i + 2] for i in range(0, 8, 2)] for quad in quads]}
        with suppress(InputError, OSError):
            entry["img_dimensions"] = list(reversed(record.size()))
            content = record.data if record.data is not None else Path(str(record.source())).read_bytes()
            entry["img_hash"] = hashlib.sha256(content).hexdigest()
        tables.setdefault(folder, {})[name] = entry
    out.mkdir(parents=True, exist_ok=True)
    for folder, table in tables.items():
        with output_text(folder / NAME) as stream:
            json.dump(table, stream, ensure_ascii=False, indent=1)
    notes = placed.notes()
    for key, words in (
        ("picture without a text", "{} left out"),
        ("text", "regions have no text here: {} left out"),
        ("spared region", "{} left out"),
    ):
        notes += [words.format(count(lost[key], key))] if lost[key] else []
    return notes
