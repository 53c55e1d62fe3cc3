"""JSON lines: one record a line, as every verb writes them; it holds everything but COCO's `info` and `licenses`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from cvtool.data.formats._files import opened_text
from cvtool.records import Record, categories_of, made_by, read_lines, write_line

DESCRIPTION = "JSON lines, one record a line"
SUFFIX = ".jsonl"
ORDER = 90


def recognises(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in (".jsonl", ".ndjson")


def splits(path: Path) -> list[str]:
    return []


def categories(path: Path) -> list[dict]:
    return categories_of(read(path))


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """Records as they stand. Their file names are paths from the current folder; with `images`, they are looked up under that folder."""
    from cvtool.data.roots import Roots

    roots = Roots(Path(path), images) if images is not None else None
    with opened_text(path) as stream:
        for record in read_lines(stream, name=str(path)):
            if roots is not None and isinstance(record.get("file_name"), str):
                roots.put(record, record["file_name"], where=str(path))
            yield record


def write(records: Iterable[Record], out: Path | IO[str], **options: object) -> list[str]:
    """One line a record. A data set's category table travels in `made_by`, as a model's does."""
    from cvtool.data.formats._files import output_text

    licences = False
    with output_text(out) as stream:
        for record in records:
            licences = licences or bool(record.dataset and record.dataset.get("licenses"))
            if record.dataset and record.dataset.get("categories") and not record.get("made_by"):
                record = record.changed(made_by=[made_by("data", categories=record.dataset["categories"])])
            write_line(record, stream)
    return ["JSON lines hold no table of licences: it is left out"] if licences else []
