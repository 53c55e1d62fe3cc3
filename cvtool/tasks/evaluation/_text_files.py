"""Texts of pictures, from whatever holds them: tables, JSON, records of `cvtool ocr`, folders of text files."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cvtool.data.pairing import first, plural
from cvtool.data.sides import Side, read_found
from cvtool.errors import InputError

MAX_BYTES = 1024**3
NAMES = ("file_name", "filename", "file", "image", "img", "picture", "path", "name", "id")
TEXTS = ("text", "transcription", "label", "words", "word")
_LISTED = re.compile(r"(\S+\.(?:png|jpe?g|tiff?|bmp|webp|gif)),\s*\"?(.*?)\"?")  # word_1.png, "Genaxis Theatre"


@dataclass
class Texts:
    """texts: of each of `side.images`. facts: of each what else is known of it. failed: lines of records that could not be read."""

    side: Side
    texts: list[str]
    facts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """Pictures that the other program could not read."""
        return self.side.failed


def read(source: str | os.PathLike, stdin: IO[bytes] | None = None, *, truth: bool) -> Texts:
    """The texts of a file, a folder or "-".

    | what | how it is read |
    | --- | --- |
    | .tsv, .csv, .txt with a tab in every line | name, text; a first line of column names is one; in TSV quotes are part of the text |
    | .txt of `word_1.png, "text"` lines | the list of the ICDAR competitions |
    | any other .txt | the text of one picture |
    | .json | an object of name -> text, a list of records, or a COCO document |
    | .jsonl, "-" | records: `text`, else the texts of the annotations in reading order |
    | a folder | NAME.gt.txt or NAME.txt, a text each; where both stand there, the first is the truth and the second what was found |

    Raises InputError, for a name that stands there twice too.
    """
    text = os.fspath(source)
    path = Path(text)
    if text == "-":
        found = _records(read_found("-", stdin=stdin))
    elif path.is_dir():
        found = _folder(path, truth)
    elif not path.is_file():
        raise InputError("no such file or folder", where=path)
    elif path.suffix.lower() in (".tsv", ".csv", ".txt"):
        found = _table(path)
    elif path.suffix.lower() == ".json":
        found = _json(path)
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        found = _records(read_found(path))
    else:
        raise InputError("not a file of texts", where=path, hint="a .tsv, .csv, .txt, .json or .jsonl file, or a folder of .txt files")
    if not found.texts:
        raise InputError("there are no texts in it", where=path)
    seen: set[str] = set()
    for image in found.side.images:
        name = image.get("file_name")
        if name is not None and (name in seen or seen.add(name)):  # type: ignore[func-returns-value]
            raise InputError(f"{name} stands there twice", where=found.side.where, hint="one text a picture")
    return found


def decoded(path: Path) -> str:
    """A UTF-8 file, with or without a byte-order mark. Raises InputError."""
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"the file has {path.stat().st_size:,} bytes, more than {MAX_BYTES:,}", where=path)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text (byte {error.start:,})", where=path, hint="iconv -f LATIN1 -t UTF-8 changes it") from error


def _made(where: str, rows: Sequence[tuple[str, str]], facts: Sequence[dict[str, Any]] = ()) -> Texts:
    side = Side(where, "records", images=[{"file_name": name} for name, _ in rows])
    return Texts(side, [text for _, text in rows], list(facts) or [{"file_name": name} for name, _ in rows])


def _folder(path: Path, truth: bool) -> Texts:
    from cvtool.tasks.evaluation._files import _walk

    places = [name for name in _walk(path) if name.lower().endswith(".txt")]
    marked = {name[: -len(".gt.txt")] for name in places if name.lower().endswith(".gt.txt")}
    plain = {name[: -len(".txt")] for name in places if not name.lower().endswith(".gt.txt")}
    chosen, suffix = (marked, ".gt.txt") if marked and (truth or not plain) else (plain, ".txt")
    rows = [(os.path.relpath(name[: -len(suffix)], path), decoded(Path(name))) for name in places if name[: -len(suffix)] in chosen]
    return _made(str(path), rows)


def _table(path: Path) -> Texts:
    text, kind = decoded(path), path.suffix.lower()
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line.strip()]
    if kind == ".txt" and not all("\t" in line for line in lines):
        listed = [_LISTED.fullmatch(line) for line in lines]
        return _made(str(path), [(m[1], m[2]) for m in listed if m] if lines and all(listed) else [(path.name, text)])
    if kind == ".csv":
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True) if row]
    else:
        rows = [line.split("\t") for line in lines]
    if not rows:
        raise InputError("the file is empty", where=path)
    name, said, more = 0, 1, False
    head = [cell.strip().lower() for cell in rows[0]]
    if any(cell in NAMES for cell in head) and any(cell in TEXTS for cell in head):
        name, said = (next(head.index(word) for word in words if word in head) for words in (NAMES, TEXTS))
        rows, more = rows[1:], True
    short = next((number for number, row in enumerate(rows, 1 + more) if len(row) <= max(name, said)), None)
    if short is not None:
        raise InputError(
            "a line of one column", where=f"{path}, row {short}", hint=f"a name and a text, with a {'comma' if kind == '.csv' else 'tab'}"
        )
    if not more and kind != ".csv":
        rows = [[row[0], "\t".join(row[1:])] for row in rows]
    facts = [{"file_name": row[name]} | ({key: cell for key, cell in zip(head, row, strict=False) if key} if more else {}) for row in rows]
    return _made(str(path), [(row[name], row[said]) for row in rows], facts)


def _json(path: Path) -> Texts:
    from cvtool.records import Record, checked, parse_json

    value = parse_json(decoded(path), where=str(path))
    if isinstance(value, dict) and value and all(isinstance(one, str) for one in value.values()):
        return _made(str(path), list(value.items()))
    if isinstance(value, list) and value and all(isinstance(one, dict) and isinstance(one.get("text"), str) and "file_name" in one for one in value):
        rows = [checked(Record(one), where=str(path)) for one in value]
        return _made(str(path), [(row["file_name"], row["text"]) for row in rows], rows)
    if isinstance(value, dict) and isinstance(value.get("images"), list):
        return _records(read_found(path))
    hint = 'an object of name -> text, a list of {"file_name", "text"}, or a COCO document'
    raise InputError("no texts in a form that is known", where=path, hint=hint)


def _records(side: Side) -> Texts:
    """`text` of each picture, else the texts of its annotations; a picture in which nothing was found has none."""
    entries: list[list[dict]] = [[] for _ in side.images]
    for owner, entry in zip(side.owners, side.entries, strict=True):
        if owner >= 0:
            entries[owner].append(entry)
    texts, silent = [], []
    for given, image, found in zip(side.given, side.images, entries, strict=True):
        said = given.get("text")
        if said is None and not any("text" in entry for entry in found) and (found or "annotations" not in given) and "error" not in given:
            silent.append(str(image.get("file_name") or image.get("id")))
        texts.append(said if isinstance(said, str) else reading_order(found))
    if silent and (len(silent) == len(texts) or side.kind == "records"):
        hint = "`text` of the record, or of its annotations; cvtool ocr gives it"
        raise InputError(f"{plural(len(silent), 'picture')} without a text: {first(silent)}", where=side.where, hint=hint)
    return Texts(side, texts, [dict(given) for given in side.given])


def reading_order(entries: Sequence[dict]) -> str:
    """The texts of annotations, from left to right in lines from top to bottom; those without a box in the order given.

    A word belongs to a line if its middle lies within the height of the line's first word.
    """
    words = [entry for entry in entries if isinstance(entry.get("text"), str)]
    if not all(entry.get("bbox") for entry in words):
        return " ".join(entry["text"] for entry in words)
    lines: list[list[dict]] = []
    for word in sorted(words, key=lambda entry: entry["bbox"][1] + entry["bbox"][3] / 2):
        middle = word["bbox"][1] + word["bbox"][3] / 2
        _, top, _, height = lines[-1][0]["bbox"] if lines else (0, 0, 0, -1)
        if lines and top <= middle <= top + height:
            lines[-1].append(word)
        else:
            lines.append([word])
    return "\n".join(" ".join(word["text"] for word in sorted(line, key=lambda entry: entry["bbox"][0])) for line in lines)
