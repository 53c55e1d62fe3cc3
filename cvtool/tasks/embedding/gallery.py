"""A gallery: who is who, as a table of embeddings with names. Adding somebody is adding rows, and trains nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from cvtool.data.formats import npz
from cvtool.errors import InputError, UsageError, did_you_mean
from cvtool.records import Record
from cvtool.tasks.embedding.table import Table


def add(path: Path, records: Iterable[Record], name: str | None = None) -> tuple[int, list[Record]]:
    """Put embedded pictures into the gallery at `path` (.npz; made where there is none). (How many are new, those without an embedding.)

    name: who is on them; None: each is of whom its folder is called after. A picture that is there already under that name takes its old place.
    Raises InputError for the embeddings of another model, naming both, and for a picture that lies in no folder.
    """
    if path.suffix.lower() != ".npz":
        raise UsageError(f"--gallery {path}: a gallery is an .npz file")
    lost: list[Record] = []
    held = {_key(record): record for record in (npz.read(path) if path.exists() else ())}
    before = len(held)
    for record in records:
        if "embedding" not in record:
            lost.append(record)
            continue
        record = record.changed(labels=[{"category": who(record, name)}])
        held[_key(record)] = record
    if len(held) > before or not lost:
        _save(path, list(held.values()))
    return len(held) - before, lost


def who(record: Record, name: str | None) -> str:
    """The name given, else that of the picture's folder. Raises InputError."""
    folder = Path(str(record.get("file_name"))).parent.name
    if not (name or folder):
        raise InputError("who is this? the picture lies in no folder that tells", where=record.name, hint="--name NAME")
    return name or folder


def remove(path: Path, name: str) -> int:
    """Take somebody out; how many rows that were. Raises InputError for a name that is not there."""
    listed = list(npz.read(_there(path)))
    kept = [record for record in listed if _name(record) != name]
    if len(kept) == len(listed):
        names = sorted({_name(record) for record in listed})
        raise InputError(f"'{name}' is not in the gallery", where=path, hint=did_you_mean(name, names) or "in it: " + ", ".join(names[:12]))
    _save(path, kept)
    return len(listed) - len(kept)


def names(path: Path) -> dict[str, int]:
    """Who is in it, by name, and on how many pictures."""
    return dict(sorted(Counter(_name(record) for record in npz.table(_there(path)).records).items()))


def read(path: Path) -> Table:
    """The gallery as a table. Raises InputError for one that is not there, or empty."""
    return Table.read(_there(path))


def _there(path: Path) -> Path:
    if not path.is_file():
        raise InputError("no such gallery", where=path, hint="`cvtool embed gallery add PHOTOS --name NAME --gallery FILE.npz -m REF` makes one")
    return path


def _name(record: Record) -> str:
    labels = record.get("labels") or [{}]
    return str(labels[0].get("category"))


def _key(record: Record) -> tuple[str, str, object]:
    return _name(record), str(record.get("sha256") or record.get("file_name")), record.get("page")


def _save(path: Path, records: list[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        npz.write(records, draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
