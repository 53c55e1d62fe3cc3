"""WebDataset: pictures and labels in tar shards, which large storage reads in one go: KEY.jpg beside KEY.cls, KEY.json or KEY.txt.

A folder of *.tar (shards called train-000000.tar, val-000000.tar ... are parts; so are folders train/, val/ of shards), one .tar, or a pattern in
braces, `shards/train-{000000..000009}.tar`. Members of one KEY, the name up to the first dot of its last part, stand together. Said of a picture:

    KEY.cls     its class: a whole number or a name
    KEY.json    an object with some of our record's keys (annotations, labels, text, id, width, height), or its class under label, class or category
    KEY.txt     its text: what stands in it or is said of it. Also its class by name, where there is neither of the others, it is one line of at most
                100 characters, and all shards hold no more than 1,000 different ones

Numbers are category ids, named by a classes.txt ("id name" a line) beside the shards. Shards are indexed by their headers and never unpacked; a
record's bytes are read when it is looked at. Its file name is SHARD.tar/MEMBER, which every verb opens (`cvtool.archives`).
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cvtool import archives
from cvtool.data.formats._files import count, opened_text, output_text
from cvtool.data.names import Names
from cvtool.errors import InputError
from cvtool.records import Record, categories_of, checked, parse_json

DESCRIPTION = "WebDataset: tar shards of KEY.jpg with KEY.cls, KEY.json or KEY.txt"
SUFFIX = None
ORDER = 55
HOLDS = {"file_name", "id", "width", "height", "annotations", "labels", "text", "split"}
HOLDS_OF_CATEGORIES = {"id", "name"}
SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
SHARD, SHARD_BYTES = 10_000, 1 << 30  # pictures and bytes after which the next shard begins
_TEXTS = ("cls", "json", "txt")
_CLASS_KEYS = ("label", "class", "cls", "category")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_KEYS = ("annotations", "labels", "text", "id", "width", "height")
MOST_CLASSES = 1000  # of KEY.txt: more are what stands in the pictures


class Stored(Record):
    """A record whose picture is a member of an archive; its bytes are read each time that they are asked for."""

    place: tuple[str, int, int] = ("", 0, 0)  # archive, first byte, bytes

    @property
    def data(self) -> bytes | None:  # type: ignore[override]
        if "replaced" in self.__dict__:
            return self.__dict__["replaced"]
        path, offset, size = self.place
        with opened_text(path) as file:
            file.seek(offset)
            found = file.read(size)
        if len(found) < size:
            raise InputError("the archive has become shorter since it was indexed", where=path)
        return found

    @data.setter
    def data(self, value: bytes | None) -> None:
        """Of a record whose picture lies elsewhere now: what was drawn of it, in a file (None)."""
        self.__dict__["replaced"] = value

    def present(self) -> bool:
        """The archive has been read, so always, as long as the picture is that of the archive."""
        return super().present() if "replaced" in self.__dict__ else True


class Sample(NamedTuple):
    """One KEY of one shard."""

    shard: str
    picture: archives.Member
    facts: dict[str, Any]  # of KEY.json
    label: int | str | None
    where: str  # of the label
    called: bool = False  # the label is KEY.txt's


def recognises(path: Path) -> bool:
    return bool(_BRACES.search(str(path)) or (path.is_file() and path.suffix.lower() == ".tar") or (path.is_dir() and _parts(path)))


def splits(path: Path) -> list[str]:
    return [name for name in _parts(Path(path)) if name]


def categories(path: Path) -> list[dict]:
    """Those that classes.txt names; else those on the pictures: numbers as they stand, names numbered from 1 in their order."""
    return _table(Path(path), _samples(_signed(Path(path), None)))


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a picture, shard by shard. Raises InputError naming the shard and the member."""
    path = Path(path)
    known = splits(path)
    if split is not None and split not in known:
        raise InputError(f"no split '{split}'", where=path, hint="its splits: " + (", ".join(known) or "none"))
    table = categories(path)
    names = {category["id"]: category["name"] for category in table}
    ids = {category["name"]: category["id"] for category in table}
    dataset = {"categories": table, "path": str(path)}
    root = str(path if path.is_dir() else path.parent)
    parts = {file: name for name, files in _parts(path).items() for file in files}
    for sample in _samples(_signed(path, split)):
        record = Stored(sample.facts, file_name=f"{sample.shard}/{sample.picture.name}")
        record.dataset, record.root, record.place = dataset, root, (sample.shard, sample.picture.offset, sample.picture.size)
        if name := parts.get(sample.shard):
            record["split"] = name
        if sample.label is not None:
            key = sample.label if isinstance(sample.label, int) else ids[sample.label]
            if key not in names:
                raise InputError(f"class {key} is none of the {len(names)} in classes.txt", where=sample.where)
            record["labels"] = [{"category_id": key, "category": names[key]}]
        yield record


def _parts(path: Path) -> dict[str, list[str]]:
    """Part ("" where there are none) -> its shards, in their order. Raises InputError for a pattern that names a shard that is not there."""
    if _BRACES.search(str(path)):
        files = list(_expanded(str(path)))
        if missing := next((file for file in files if not os.path.isfile(file)), None):
            raise InputError("no such shard", where=missing, hint=f"the pattern {path} names {len(files):,}")
        return {"": files}
    if path.is_file():
        return {"": [str(path)]}
    if not path.is_dir():
        raise InputError("no such file or folder", where=path)
    shards = _shards(path)
    if not shards:
        return {folder.name: found for name in SPLITS if (folder := path / name).is_dir() and (found := _shards(folder))}
    parts: dict[str, list[str]] = {}
    for file in shards:
        parts.setdefault(re.sub(r"[-_.]?\d+$", "", Path(file).stem), []).append(file)
    if len(parts) == 1 and next(iter(parts)).lower() not in SPLITS:
        return {"": shards}
    place = {name: number for number, name in enumerate(SPLITS)}
    return dict(sorted(parts.items(), key=lambda item: (place.get(item[0].lower(), len(place)), item[0])))


def _shards(folder: Path) -> list[str]:
    return sorted(str(file) for file in folder.glob("*.tar") if not file.name.startswith(".") and file.is_file())


def _expanded(text: str) -> Iterator[str]:
    """`a-{08..10}.tar` -> a-08.tar, a-09.tar, a-10.tar; digits keep their width. Raises InputError for more than a million."""
    if (match := _BRACES.search(text)) is None:
        yield text
        return
    first, last = int(match[1]), int(match[2])
    if not 0 <= last - first < 1_000_000:
        raise InputError(f"the pattern {match[0]} runs backwards or names more than a million shards", where=text)
    for number in range(first, last + 1):
        yield from _expanded(f"{text[: match.start()]}{number:0{len(match[1])}d}{text[match.end() :]}")


def _signed(path: Path, split: str | None) -> tuple[tuple[str, int, int], ...]:
    """The shards of a part (None: of all) with what changes when they are written anew."""
    files = [file for name, found in _parts(path).items() if split in (None, name) for file in found]
    return tuple((file, (facts := os.stat(file)).st_mtime_ns, facts.st_size) for file in files)


@lru_cache(maxsize=4)
def _samples(shards: tuple[tuple[str, int, int], ...]) -> list[Sample]:
    """All samples of some shards: the index, which is made once."""
    found = [sample for shard, _, _ in shards for sample in _index(shard)]
    if len({sample.label for sample in found if sample.called}) > MOST_CLASSES:
        return [sample._replace(label=None) if sample.called else sample for sample in found]
    return found


def _index(shard: str) -> Iterator[Sample]:
    from cvtool.images import SUFFIXES

    key, picture = "", None
    texts: dict[str, tuple[str, bytes]] = {}
    seen: set[str] = set()
    for member, content in archives.members(shard):
        folder, _, base = member.name.rpartition("/")
        stem, _, kind = base.partition(".")
        kind, own = kind.lower(), f"{folder}/{stem}" if folder else stem
        if base.startswith("."):  # ._name.jpg: what some systems put beside a file
            continue
        if own != key:
            if picture is not None:
                yield _sample(shard, picture, texts)
            key, picture, texts = own, None, {}
        if f".{kind}" in SUFFIXES:
            if picture is not None:
                raise InputError(f"'{picture.name}' and '{member.name}' are two pictures of one key", where=shard)
            if own in seen:
                raise InputError(f"'{member.name}' is the second picture of its key", where=shard, hint="files of one key stand together in a shard")
            seen.add(own)
            picture = member
        elif kind in _TEXTS:
            texts[kind] = member.name, content()
    if picture is not None:
        yield _sample(shard, picture, texts)


def _sample(shard: str, picture: archives.Member, texts: dict[str, tuple[str, bytes]]) -> Sample:
    facts: dict[str, Any] = {}
    label: int | str | None = None
    where = f"{shard}: {picture.name}"
    if "json" in texts:
        where = f"{shard}: {texts['json'][0]}"
        value = parse_json(texts["json"][1], where=where)
        if not isinstance(value, dict):
            raise InputError("not a JSON object", where=where)
        facts = dict(checked(Record({key: value[key] for key in _KEYS if key in value}), where=where))
        if not isinstance(facts.get("text", ""), str):
            raise InputError("text is no text", where=where)
        label = next((value[key] for key in _CLASS_KEYS if type(value.get(key)) in (int, str)), None) if not facts.get("labels") else None
    called = False
    for kind in ("cls", "txt"):
        if kind in texts and label is None and (kind == "cls" or not facts):
            where = f"{shard}: {texts[kind][0]}"
            label = _label(texts[kind][1], where, strict=kind == "cls")
            called = kind == "txt"
    if "txt" in texts:
        facts.setdefault("text", _text(texts["txt"][1], f"{shard}: {texts['txt'][0]}"))
    return Sample(shard, picture, facts, label, where, called)


def _label(data: bytes, where: str, *, strict: bool) -> int | str | None:
    """A number or a name; without `strict` None where it is neither. Raises InputError."""
    text = _text(data, where)
    if not text or "\n" in text or len(text) > 100:
        if strict:
            raise InputError(f"a class is a number or a name, not {text[:40]!r}", where=where)
        return None
    return int(text) if text.isascii() and text.isdigit() else text


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", where=where) from error


def _table(path: Path, samples: list[Sample]) -> list[dict]:
    listed = (path if path.is_dir() else path.parent) / "classes.txt"
    if listed.is_file():
        return _named(listed, samples)
    used = {sample.label for sample in samples} - {None}
    table = {key: f"class{key}" for key in used if isinstance(key, int)}
    if not table:
        table = dict(enumerate(sorted(str(key) for key in used), 1))
    elif named := next((sample for sample in samples if isinstance(sample.label, str)), None):
        raise InputError(f"'{named.label}' is a name, and other classes are numbers", where=named.where, hint="name them all in classes.txt")
    for category in categories_of(Record(sample.facts) for sample in samples if sample.facts):
        table.setdefault(category["id"], category["name"])
    return [{"id": key, "name": table[key]} for key in sorted(table, key=lambda key: (isinstance(key, str), key))]


def _named(file: Path, samples: list[Sample]) -> list[dict]:
    found: dict[int, str] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        first, _, rest = line.strip().partition(" ")
        if first and not first.startswith("#"):
            key, name = (int(first), rest.strip()) if first.isdecimal() and rest.strip() else (len(found), line.strip())
            if key in found or name in found.values():
                raise InputError(f"class {key} ({name}) is named twice", where=f"{file}, line {number}")
            found[key] = name
    names = set(found.values())
    if odd := next((sample for sample in samples if isinstance(sample.label, str) and sample.label not in names), None):
        raise InputError(f"class '{odd.label}' is not in classes.txt", where=odd.where)
    return [{"id": key, "name": name} for key, name in sorted(found.items())]


def write(records: Iterable[Record], out: Path, *, split: str | None = None, **options: object) -> list[str]:
    """OUT/PART-000000.tar ... (without parts shard-000000.tar) and OUT/classes.txt; the pictures' own bytes, equal for equal input.

    A picture with one label and nothing else gets KEY.cls, any other KEY.json. A new shard begins after 10,000 pictures or 1 GiB.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    listed = list(records)
    lost = dict.fromkeys(("picture", "page", "map"), 0)
    table = [category for category in categories_of(listed) if isinstance(category["id"], int)]
    writers: dict[str, _Writer] = {}
    for record in listed:
        part = str(record.get("split") or split or "shard")
        if part == ".." or Path(part).name != part:
            raise InputError(f"the split's name '{part}' is no file name")
        lost["map"] += "segmentation_map" in record
        if record.get("page"):
            lost["page"] += 1
            continue
        try:
            content = record.data if record.data is not None else Path(str(record.source())).read_bytes()
        except (OSError, InputError):
            lost["picture"] += 1
            continue
        writers.setdefault(part, _Writer(out, part)).add(record, content)
    for writer in writers.values():
        writer.close()
    with output_text(out / "classes.txt") as stream:
        stream.writelines(f"{category['id']} {category['name']}\n" for category in table)
    notes = [note for writer in writers.values() for note in writer.names.note()]
    words = {
        "picture": "{} cannot be read: left out",
        "page": "{} of files with several left out",
        "map": "tar shards hold no label maps: {} left out",
    }
    return notes + [words[key].format(count(number, key)) for key, number in lost.items() if number]


class _Writer:
    """The shards of one part."""

    def __init__(self, out: Path, part: str) -> None:
        self.out, self.part, self.names, self.keys = out, part, Names(), set[str]()
        self.number = self.pictures = self.bytes = 0
        self.archive: tarfile.TarFile | None = None

    def add(self, record: Record, content: bytes) -> None:
        if self.archive is None or self.pictures >= SHARD or self.bytes + len(content) > SHARD_BYTES:
            self.close()
            self.draft = self.out / f".{self.part}-{self.number:06d}.tar.tmp"
            self.archive = tarfile.open(self.draft, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
            self.pictures = self.bytes = 0
        base, suffix = os.path.splitext(self.names.take(record))
        key = base.replace(".", "_")  # a key ends at the first dot
        if key in self.keys:
            key += f"_{len(self.keys)}"
        self.keys.add(key)
        labels, objects = record.get("labels") or [], record.get("annotations") or []
        if len(labels) == 1 and not objects and not {"id", "text"} & record.keys() and isinstance(labels[0].get("category_id"), int):
            said, kind = str(labels[0]["category_id"]).encode(), "cls"
        else:
            facts = {name: record[name] for name in _KEYS if record.get(name) not in (None, [])}
            said, kind = json.dumps(facts, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogateescape"), "json"
        for ending, data in ((suffix.lower().removeprefix(".") or "jpg", content), (kind, said)):
            archives.add(self.archive, f"{key}.{ending}", data)
        self.pictures += 1
        self.bytes += len(content)

    def close(self) -> None:
        """The shard at hand gets its name."""
        if self.archive is not None:
            self.archive.close()
            os.replace(self.draft, self.out / f"{self.part}-{self.number:06d}.tar")
            self.archive, self.number = None, self.number + 1
