"""Words: pictures of one word (or line) each, and a list of what stands in them.

A list is a .tsv or .txt of `NAME<TAB>TEXT` lines, or of `NAME, "TEXT"` lines as the ICDAR competitions have them (with `\\"` for a quote inside).
A folder may hold one list or several, which are parts then: train.tsv, test.tsv. A first line of column names (file_name, text) is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from cvtool.data.formats._files import count, opened_text, output_text
from cvtool.data.formats._words import SPLITS, Placed
from cvtool.data.roots import Roots
from cvtool.errors import InputError
from cvtool.images import SUFFIXES
from cvtool.records import Record

DESCRIPTION = 'words: a list of NAME<TAB>TEXT (or NAME, "TEXT") beside pictures'
SUFFIX = None
ORDER = 58
HOLDS = {"file_name", "text", "split"}
_LISTED = re.compile(r'(\S+\.\w+),\s*"(.*)"\s*')
_HEAD = re.compile(r"(?i)(file_?name|file|image|img|path)\t(text|label|transcription|word)s?")
_LOOKS = 8  # lines by which a list is known


def recognises(path: Path) -> bool:
    return _is_list(path) or (path.is_dir() and bool(_lists(path)))


def splits(path: Path) -> list[str]:
    return [name for name in _lists(Path(path)) if name]


def categories(path: Path) -> list[dict]:
    return []


def _is_list(path: Path) -> bool:
    """Whether the first lines of a file are names of pictures and texts."""
    if path.suffix.lower() not in (".tsv", ".txt") or path.name.startswith(".") or not path.is_file():
        return False
    with opened_text(path) as stream:
        head = stream.read(1 << 16).decode("utf-8-sig", "replace").splitlines()
    lines = [line for line in head if line.strip()][:_LOOKS]
    if lines and _HEAD.fullmatch(lines[0].strip()):
        lines = lines[1:]
    return bool(lines) and all((found := _parted(line)) is not None and Path(found[0]).suffix.lower() in SUFFIXES for line in lines)


def _parted(line: str) -> tuple[str, str] | None:
    """Name and text of a line."""
    name, tab, text = line.partition("\t")
    if tab:
        return name.strip(), text
    match = _LISTED.fullmatch(line)
    return None if match is None else (match[1], match[2].replace('\\"', '"'))


def _lists(path: Path) -> dict[str, Path]:
    """Part ("" where there are none) -> its list."""
    if not path.is_dir():
        return {"": path}
    files = [file for file in sorted(path.iterdir()) if _is_list(file)]
    if len(files) == 1 and files[0].stem.lower() not in SPLITS:
        return {"": files[0]}
    place = {name: number for number, name in enumerate(SPLITS)}
    return {file.stem: file for file in sorted(files, key=lambda file: (place.get(file.stem.lower(), len(place)), file.name))}


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a line. Names are looked up beside the list and in the folders there. Raises InputError naming the line."""
    path = Path(path)
    lists = _lists(path)
    if split is not None and split not in lists:
        raise InputError(f"no split '{split}'", where=path, hint="its splits: " + (", ".join(name for name in lists if name) or "none"))
    if not lists:
        raise InputError("no list of words in it", where=path, hint="a .tsv or .txt of NAME<TAB>TEXT lines")
    for part, file in lists.items():
        if split not in (None, part):
            continue
        roots = Roots(file, images)
        with opened_text(file) as stream:
            try:
                lines = stream.read().decode("utf-8-sig").split("\n")
            except UnicodeDecodeError as error:
                raise InputError("not UTF-8 text", where=file) from error
        for number, line in enumerate(lines, 1):
            line = line.removesuffix("\r")
            if not line.strip() or (number == 1 and _HEAD.fullmatch(line.strip())):
                continue
            where = f"{file}, line {number}"
            if (found := _parted(line)) is None:
                raise InputError('neither NAME<TAB>TEXT nor NAME, "TEXT"', where=where)
            record = Record(text=found[1])
            roots.put(record, found[0], where=where)
            if part:
                record["split"] = part
            yield record


def write(records: Iterable[Record], out: Path, *, copy_images: bool = False, **options: object) -> list[str]:
    """OUT/PART.tsv and OUT/PART/NAME (without parts labels.tsv and images/NAME)."""
    out, placed = Path(out), Placed(copy=copy_images)
    lines: dict[str, list[str]] = {}
    silent = broken = 0
    for record in records:
        if not isinstance(text := record.get("text"), str):
            silent += 1
            continue
        part = str(record.get("split") or "")
        shown = " ".join(text.splitlines())
        broken += shown != text
        folder = part or "images"
        lines.setdefault(part or "labels", []).append(f"{folder}/{placed.put(record, out / folder)}\t{shown}\n")
    out.mkdir(parents=True, exist_ok=True)
    for name, some in lines.items():
        with output_text(out / f"{name}.tsv") as stream:
            stream.writelines(some)
    notes = placed.notes()
    notes += [f"{count(silent, 'picture')} without a text left out"] if silent else []
    return notes + ([f"a text is one line here: {count(broken, 'text')} of several joined"] if broken else [])
