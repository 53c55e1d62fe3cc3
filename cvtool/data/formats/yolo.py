"""YOLO: data.yaml with the class names, labels/*.txt with a line an object, `class cx cy w h [conf]` as fractions of the picture's size.

Read: detection, segmentation (`class x1 y1 x2 y2 ...`) and keypoint labels (`kpt_shape` in data.yaml); `path`, `train`, `val` and `test` as folders,
lists of pictures or several of them; a folder with images/ and labels/ and no data.yaml. A picture without a label file has no objects. Classes
are numbered from 0, YOLO's own ids. The `path` that data.yaml declares is the data root, which no name may leave; Roboflow's
`../train/images`, which means `train/images`, is understood.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cvtool.data.formats import _polygons
from cvtool.data.formats._files import opened_text
from cvtool.data.formats._yolo_write import write as write
from cvtool.data.roots import Roots
from cvtool.errors import InputError
from cvtool.records import Record

DESCRIPTION = "YOLO: data.yaml, images/, labels/*.txt"
SUFFIX = None
ORDER = 20
HOLDS = {"file_name", "width", "height", "annotations", "split"}
HOLDS_OF_OBJECTS = {"bbox", "category", "score"}
HOLDS_OF_CATEGORIES = {"id", "name"}
SPLITS = ("train", "val", "test")
_YAML = (".yaml", ".yml")


def recognises(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() in _YAML and _looks_right(path)
    return path.is_dir() and (_yaml_in(path) is not None or _bare(path))


def _looks_right(path: Path) -> bool:
    try:
        return isinstance(found := _load(path), dict) and ("names" in found or "nc" in found)
    except InputError:
        return False


def _yaml_in(folder: Path) -> Path | None:
    found = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in _YAML and entry.is_file() and not entry.name.startswith("."))
    named = [file for file in found if file.stem in ("data", "dataset")] or found
    return next((file for file in named if _looks_right(file)), None)


def _bare(folder: Path) -> bool:
    labels = folder / "labels"
    return (folder / "images").is_dir() and labels.is_dir() and next(labels.rglob("*.txt"), None) is not None


def _load(path: Path) -> Any:
    import yaml

    with opened_text(path) as file:
        text = file.read(1 << 24)
    if b"&" in text and b"*" in text:  # aliases can blow a small file up to any size
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise InputError("the YAML uses aliases, which a data set has no use for; it is refused", where=path)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InputError(f"not valid YAML: {' '.join(str(error).split())}", where=path) from error


class _Set:
    """data.yaml, understood."""

    def __init__(self, path: Path, images: Path | None) -> None:
        path = Path(path)
        if not path.exists():
            raise InputError("no such file or folder", where=path)
        self.file = path if path.is_file() else _yaml_in(path)
        home = path.parent if path.is_file() else path
        facts = _load(self.file) if self.file is not None else {}
        if not isinstance(facts, dict):
            raise InputError("data.yaml is not a table of keys", where=self.file)
        self.facts, self.home = facts, home
        self.root = Path(images) if images is not None else self._root(facts.get("path"))
        self.roots = Roots(self.root, self.root)
        shape = facts.get("kpt_shape")
        right = isinstance(shape, list) and len(shape) == 2 and all(type(v) is int and v > 0 for v in shape) and shape[1] in (2, 3)
        if shape is not None and not right:
            raise InputError(f"kpt_shape is not [count, 2 or 3]: {shape!r}", where=self.file)
        self.keypoints: list[int] | None = shape

    def _root(self, declared: Any) -> Path:
        if declared is None or declared == "":
            return self.home
        if not isinstance(declared, str):
            raise InputError("'path' is no text", where=self.file)
        for candidate in (self.home / declared, Path(declared)):
            if candidate.is_dir():
                return candidate
        if any((self.home / str(self.facts.get(key, "?"))).exists() for key in SPLITS):
            return self.home
        raise InputError(f"its path '{declared}' does not exist", where=self.file, hint="`--images DIR` says where the data set is")

    def names(self) -> list[str]:
        found = self.facts.get("names")
        if isinstance(found, dict):
            try:
                numbered = {int(key): str(value) for key, value in found.items()}
            except (TypeError, ValueError) as error:
                raise InputError("names: its keys are not numbers", where=self.file) from error
            if min(numbered, default=0) < 0 or max(numbered, default=0) > 1_000_000:
                raise InputError("names: a class number is out of range", where=self.file)
            return [numbered.get(i, f"class{i}") for i in range(max(numbered, default=-1) + 1)]
        if isinstance(found, list):
            return [str(name) for name in found]
        if found is not None:
            raise InputError("names is neither a list nor a table", where=self.file)
        if self.file is None and (listed := self.root / "classes.txt").is_file():
            return [line.strip() for line in listed.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        known = self.facts.get("nc")
        return [f"class{i}" for i in range(known if isinstance(known, int) and 0 <= known < 1_000_000 else self._highest() + 1)]

    def _highest(self) -> int:
        """The highest class number in the label files, for a folder that says nothing of its classes."""
        highest = -1
        for file in (self.root / "labels").rglob("*.txt"):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                word = line.split(maxsplit=1)[:1]
                highest = max(highest, int(word[0]) if word and word[0].isdecimal() and len(word[0]) < 7 else -1)
        return highest

    def splits(self) -> list[str]:
        if self.file is not None:
            return [name for name in SPLITS if self.facts.get(name)]
        folder = self.root / "images"
        return [name for name in SPLITS if (folder / name).is_dir()]

    def distinct(self) -> list[str]:
        """The splits without those that name the same pictures as an earlier one (small sets give `train` as `val`)."""
        first: dict[str, str] = {}
        for name in self.splits():
            first.setdefault(str(self.facts.get(name, name)), name)
        return list(first.values())

    def pictures(self, split: str | None) -> Iterator[tuple[str, str]]:
        """(path, where it was named) of a split's pictures; None for a folder without splits."""
        from cvtool.data.inputs import walk

        if self.file is None or split is None:
            folder = self.root / "images"
            folder = folder / split if split is not None else folder if folder.is_dir() else self.root
            yield from ((path, str(folder)) for path in walk(str(folder)))
            return
        entries = self.facts[split]
        for entry in entries if isinstance(entries, list) else [entries]:
            if not isinstance(entry, str):
                raise InputError(f"'{split}' is neither a path nor a list of paths", where=self.file)
            path = self._inside(entry, split)
            if path.is_dir():
                yield from ((file, str(path)) for file in walk(str(path)))
            elif path.suffix.lower() == ".txt" and path.is_file():
                yield from self._list(path)
            else:
                raise InputError(f"'{split}: {entry}' is neither a folder nor a .txt list", where=self.file, hint=f"looked at {path}")

    def _inside(self, entry: str, split: str) -> Path:
        real = os.path.abspath(self.root)
        plain = os.path.normpath(os.path.join(real, entry))
        if os.path.commonpath([plain, real]) == real and os.path.exists(plain):
            return self.root / os.path.relpath(plain, real)
        tail = entry.replace("\\", "/")
        while tail.startswith(("../", "./")):
            tail = tail.partition("/")[2]
        if not os.path.isabs(tail) and ".." not in tail.split("/") and (self.root / tail).exists():
            return self.root / tail
        if os.path.commonpath([plain, real]) == real:
            raise InputError(f"'{split}: {entry}' does not exist", where=self.file, hint=f"looked for {plain}")
        raise InputError(
            f"'{split}: {entry}' leads out of the data root", where=self.file, hint=f"names must stay inside {self.root}, or use --images DIR"
        )

    def _list(self, path: Path) -> Iterator[tuple[str, str]]:
        from cvtool.images import SUFFIXES

        beside = os.path.relpath(path.parent, self.root)
        with opened_text(path) as file:
            for number, raw in enumerate(file, 1):
                line = raw.decode("utf-8-sig", errors="surrogateescape").strip()
                if not line:
                    continue
                where = f"{path}, line {number}"
                if os.path.splitext(line)[1].lower() not in SUFFIXES:
                    raise InputError(f"'{line}' is no picture's name", where=where)
                found = self.roots.find(line, where=where)
                if not os.path.isfile(found) and not os.path.isabs(line):
                    found = self.roots.find(os.path.join(beside, line), where=where)
                yield found, where


def splits(path: Path) -> list[str]:
    return _Set(path, None).splits()


def categories(path: Path) -> list[dict]:
    return [{"id": i, "name": name} for i, name in enumerate(_Set(path, None).names())]


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a picture, of one split or of all in order. The picture's header is read for its size; a picture that cannot be is a record with
    `error`. Raises InputError naming the label file and line."""
    found = _Set(path, images)
    known = found.splits()
    if split is not None and split not in known:
        raise InputError(f"no split '{split}'", where=path, hint="its splits: " + (", ".join(known) or "none"))
    names = found.names()
    dataset = {"categories": [{"id": i, "name": name} for i, name in enumerate(names)], "path": str(path)}
    for name in [split] if split is not None else found.distinct() or [None]:  # type: ignore[list-item]
        for picture, _ in found.pictures(name):
            record = Record(file_name=picture)
            record.dataset, record.root = dataset, str(found.root)
            if name is not None:
                record["split"] = name
            try:
                record["width"], record["height"] = record.size()
            except InputError as error:
                yield record.with_error(error)
                continue
            record["annotations"] = _labels(label_file(picture), names, found.keypoints, record["width"], record["height"])
            yield record


def label_file(picture: str) -> Path:
    """Where a picture's labels stand: the last folder `images` of its path becomes `labels`; else beside it, or in a `labels` folder there."""
    head, tail = os.path.split(os.path.splitext(picture)[0])
    parts = head.split(os.sep)
    for i in range(len(parts) - 1, -1, -1):
        if parts[i] == "images":
            return Path(os.sep.join([*parts[:i], "labels", *parts[i + 1 :], tail + ".txt"]))
    beside = Path(head) / "labels" / f"{tail}.txt"
    return beside if beside.exists() else Path(head) / f"{tail}.txt"


def _labels(file: Path, names: list[str], shape: list[int] | None, width: int, height: int) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    found = []
    with opened_text(file) as lines:
        for number, line in enumerate(lines, 1):
            words = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).split()
            if words:
                found.append(_object(words, names, shape, width, height, f"{file}, line {number}"))
    return found


def _object(words: list[bytes], names: list[str], shape: list[int] | None, width: int, height: int, where: str) -> dict[str, Any]:
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise InputError(f"not numbers: {b' '.join(words[:6]).decode('ascii', 'replace')}", where=where) from error
    if not all(abs(value) < 1e300 for value in values):
        raise InputError("a number is not finite", where=where)
    index = int(values[0])
    if index != values[0] or not 0 <= index < len(names):
        raise InputError(f"class {words[0].decode('ascii', 'replace')} is none of the {len(names)} names", where=where)
    entry: dict[str, Any] = {"category_id": index, "category": names[index], "iscrowd": 0}
    rest, size = values[1:], (width, height)
    points = 0 if shape is None else shape[0] * shape[1]
    if len(rest) in (4, 5) or (shape is not None and len(rest) in (4 + points, 5 + points)):
        x, y, w, h = (_pixels(rest[i] * size[i % 2]) for i in range(4))
        entry["bbox"] = [_pixels(x - w / 2), _pixels(y - h / 2), w, h]
        entry["area"] = _pixels(w * h)
        if shape is not None and len(rest) >= 4 + points:
            entry["keypoints"] = _keypoints(rest[4 : 4 + points], shape, width, height)
            entry["num_keypoints"] = sum(v > 0 for v in entry["keypoints"][2::3])
        if len(rest) in (5, 5 + points) and len(rest) != 4 + points:
            entry["score"] = rest[-1]
    elif len(rest) >= 6 and shape is None:
        if len(rest) % 2:  # predictions end in a confidence
            entry["score"] = rest.pop()
        ring = [_pixels(value * size[i % 2]) for i, value in enumerate(rest)]
        entry |= {"bbox": [_pixels(v) for v in _polygons.bounds([ring])], "area": _pixels(_polygons.area(ring)), "segmentation": [ring]}
    else:
        raise InputError(f"a line of {len(words)} numbers is no label (a box has 5, or 6 with confidence)", where=where)
    return entry


def _keypoints(values: list[float], shape: list[int], width: int, height: int) -> list[float]:
    found: list[float] = []
    for i in range(shape[0]):
        point = values[i * shape[1] : (i + 1) * shape[1]]
        seen = int(point[2]) if shape[1] == 3 else 2 if any(point) else 0
        found += [_pixels(point[0] * width), _pixels(point[1] * height), seen]
    return found


def _pixels(value: float) -> float:
    """Fractions are written with nine digits; a ten-thousandth of a pixel is what they can hold for any picture."""
    return round(value, 4) + 0.0
