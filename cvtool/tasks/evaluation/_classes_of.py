"""Which pictures are of one class: from lists of names and labels, lists of pairs, labelled data sets, or the embeddings' own records."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from cvtool.errors import InputError

_TABLES = (".tsv", ".csv", ".txt")
_WORDS = {"1": True, "true": True, "same": True, "yes": True, "0": False, "false": False, "different": False, "no": False, "-1": False}


@dataclass
class Truth:
    """names: of the pictures. labels: the class of each, words. pairs: rows (one, other, whether the same), where the file is a list of pairs."""

    names: list[str]
    labels: list[str]
    where: str
    pairs: list[tuple[int, int, bool]] = field(default_factory=list)

    def numbers(self) -> np.ndarray:
        """The classes as whole numbers from 0."""
        known = {label: number for number, label in enumerate(dict.fromkeys(self.labels))}
        return np.array([known[label] for label in self.labels], np.int64)


def read(source: str | os.PathLike, *, split: str | None = None, data_format: str | None = None, stdin: IO[bytes] | None = None) -> Truth:
    """A .tsv, .csv or .txt of NAME LABEL, or of NAME NAME SAME (1 or 0), with or without a header; JSON lines or .npz whose records have `labels`; or
    a data set with a class for each picture. Raises InputError."""
    path = Path(source)
    if path.suffix.lower() in _TABLES and os.fspath(source) != "-":
        return _table(path)
    if path.suffix.lower() == ".npz":
        from cvtool.data.formats import npz

        records = [dict(record) for record in npz.read(path)]
        images, labels, where = records, [record.get("labels") or [] for record in records], str(path)
    else:
        from cvtool.data.sides import read_truth

        side = read_truth(source, split=split, data_format=data_format, stdin=stdin)
        images, labels, where = side.images, side.labels, side.where
    named = [(str(image.get("file_name")), own[0]) for image, own in zip(images, labels, strict=True) if own]
    if not named:
        hint = "a .tsv of NAME and LABEL, or of NAME, NAME and 1 or 0; or a folder for each class"
        raise InputError("no picture has a class", where=where, hint=hint)
    return Truth([name for name, _ in named], [str(label.get("category") or label.get("category_id")) for _, label in named], where)


def _table(path: Path) -> Truth:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot be read as text", where=path) from error
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError("the file is empty", where=path)
    delimiter = "\t" if "\t" in lines[0] else "," if path.suffix.lower() == ".csv" else None
    rows = [line.split() for line in lines] if delimiter is None else [[c.strip() for c in row] for row in csv.reader(lines, delimiter=delimiter)]
    if rows[0][0].lower() in ("name", "file_name", "filename", "image", "query", "a", "one"):
        rows.pop(0)
    widths = {len(row) for row in rows}
    if widths == {2}:
        return Truth([row[0] for row in rows], [row[1] for row in rows], str(path))
    if widths != {3}:
        number = next((n for n, row in enumerate(rows, 1) if len(row) not in (2, 3) or len(row) != len(rows[0])), 1)
        raise InputError(f"row {number} has {len(rows[number - 1])} columns", where=path, hint="NAME LABEL, or NAME NAME SAME (1 or 0), a line each")
    return _paired(rows, path)


def _paired(rows: Sequence[Sequence[str]], path: Path) -> Truth:
    """Pairs as classes too: pictures are of one class where pairs of the same lead from one to the other. Raises InputError for a contradiction."""
    places: dict[str, int] = {}
    pairs = []
    for number, (one, other, word) in enumerate(rows, 1):
        if (same := _WORDS.get(word.lower())) is None:
            raise InputError(
                f"row {number}: '{word}' is neither 1 nor 0", where=path, hint="NAME NAME SAME: 1 for two of the same, 0 for different ones"
            )
        pairs.append((places.setdefault(one, len(places)), places.setdefault(other, len(places)), same))
    root = list(range(len(places)))

    def top(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for a, b, same in pairs:
        if same:
            root[top(a)] = top(b)
    names = list(places)
    for a, b, same in pairs:
        if not same and top(a) == top(b):
            raise InputError(f"{names[a]} and {names[b]} are said to differ, and by other pairs they are the same", where=path)
    return Truth(names, [str(top(i)) for i in range(len(names))], str(path), pairs)


def vectors(source: str | os.PathLike, stdin: IO[bytes] | None = None) -> tuple[list[str], np.ndarray]:
    """(names, N D float64) of a table of embeddings (.npz, .npy, .safetensors, .parquet) or JSON lines with `embedding`. Raises InputError."""
    path = Path(source)
    if os.fspath(source) != "-" and (suffix := path.suffix.lower()) in (".npz", ".npy", ".safetensors", ".parquet"):
        from cvtool.data import formats

        records = [dict(record) for record in formats.get(suffix[1:]).read(path)]
    else:
        import sys

        from cvtool.records import read_lines

        if os.fspath(source) != "-" and not path.is_file():
            raise InputError("no such file" if not path.exists() else "a folder, and a file of embeddings is needed", where=path)
        stream: Any = (stdin or sys.stdin.buffer) if os.fspath(source) == "-" else path.open("rb")
        with stream if os.fspath(source) != "-" else nullcontext():
            records = [dict(record) for record in read_lines(stream, name=str(source)) if "embedding" in record]
    if not records:
        raise InputError("no embeddings in it", where=source, hint="`cvtool embed PHOTOS -m REF -o FILE.npz` makes them")
    if len(lengths := {len(record["embedding"]) for record in records}) > 1:
        raise InputError(f"embeddings of different lengths: {sorted(lengths)}", where=source, hint="one model makes all that are compared")
    found = np.array([record.pop("embedding") for record in records], np.float64)
    names = [str(record.get("file_name") or record.get("id")) for record in records]
    if (bad := np.flatnonzero(~np.isfinite(found).all(1))).size:
        raise InputError(f"the embedding of {names[bad[0]]} holds numbers that are none", where=source)
    return names, found
