"""Embeddings as CSV, for spreadsheets: file_name, page, then e0, e1 ... ; the manifest beside it, in x.csv.json."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from cvtool.data.formats._files import opened_text, output_text
from cvtool.errors import InputError
from cvtool.records import Record

BESIDE = ".json"


def holds(path: Path) -> bool:
    """Whether a CSV is one of these."""
    with opened_text(path) as stream:
        return b",e0," in stream.readline(1 << 16)


def read(path: Path) -> Iterator[Record]:
    """A record a row. Raises InputError naming the line."""
    from cvtool.data.formats import _vectors

    beside = path.with_name(path.name + BESIDE)
    facts = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.reader(stream)
        names = next(rows)
        start, width = names.index("e0"), len(names)
        for row in rows:
            try:
                if len(row) != width:
                    raise ValueError
                page = {"page": int(row[1])} if names[1] == "page" and row[1] else {}
                vector = [float(value) for value in row[start:]]
            except ValueError as error:
                raise InputError("a row that is no embedding", where=f"{path}, line {rows.line_num}") from error
            yield _vectors.restored(row[0], json.dumps(page), facts).changed(embedding=vector)


def write(records: Iterable[Record], out: Path | IO[str]) -> list[str]:
    """Row by row, as they come; every digit of float32. Raises InputError for embeddings of several models, and for tokens."""
    from cvtool.data.formats import _vectors

    rows, count = _vectors.Rows(out if isinstance(out, Path) else None), 0
    with output_text(out) as stream:
        lines = csv.writer(stream, lineterminator="\n")
        for vector, name, rest in rows.of(records):
            if vector.ndim != 1:
                raise InputError("CSV holds one vector a picture", hint="tokens go to .npy, .npz or .jsonl")
            if not count:
                lines.writerow(["file_name", "page", *(f"e{i}" for i in range(len(vector)))])
            lines.writerow([name, json.loads(rest).get("page", ""), *vector.astype("U32").tolist()])
            stream.flush()
            count += 1
    if isinstance(out, Path) and out.is_file():
        out.with_name(out.name + BESIDE).write_text(json.dumps(rows.manifest(count)) + "\n", encoding="utf-8")
    return rows.notes()
