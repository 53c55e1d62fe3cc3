"""Tables of embeddings, whatever file they lie in: vectors, the record of each row, and the manifest that says how they were made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cvtool.errors import InputError
from cvtool.records import Record

MADE = "model", "weights_sha256", "prepare", "layer", "tokens", "normalized", "binary", "img_size", "cvtool"
HINT = "`cvtool embed PHOTOS -m REF -o FILE.npz` makes one"


@dataclass
class Vectors:
    """vectors: N D (or N T D: the tokens of each picture), float32 or float16, perhaps memory-mapped. manifest: MADE, dims, count."""

    vectors: np.ndarray
    records: Sequence[Record]
    manifest: dict[str, Any] = field(default_factory=dict)


def maker(record: Record) -> dict[str, Any]:
    """The record's entry of `made_by` that tells of its embedding: the last of the verb."""
    entries = [entry for entry in record.get("made_by") or () if entry.get("verb") == "embed"]
    return entries[-1] if entries else {}


def manifest(entry: dict[str, Any], vectors: tuple[int, ...]) -> dict[str, Any]:
    """What a table says of itself. vectors: the shape."""
    facts = {key: entry[key] for key in MADE if key in entry}
    return facts | {"dims": int(vectors[-1]) if len(vectors) > 1 else 0, "count": int(vectors[0])}


class Rows:
    """Records on their way into a table, each split into its vector and the rest; all must be one model's. Those without are counted in `lost`."""

    def __init__(self, where: object) -> None:
        self.where, self.entry, self.shape, self.lost = where, dict[str, Any](), tuple[int, ...](), 0

    def of(self, records: Iterable[Record]) -> Iterator[tuple[np.ndarray, str, str]]:
        """(vector float32, file name, the rest as JSON) of each. Raises InputError."""
        first = True
        for record in records:
            if "embedding" not in record:
                self.lost += 1
                continue
            vector, entry = vector_of(record, self.where), maker(record)
            if first:
                first, self.entry, self.shape = False, entry, vector.shape
            check_same(self.entry, entry, self.where)
            if vector.shape != self.shape:
                raise InputError("the embeddings are of different lengths: several models made them", where=self.where)
            yield vector, str(record.get("file_name", "")), self._rest(record)

    def _rest(self, record: Record) -> str:
        rest = {key: value for key, value in record.items() if key not in ("embedding", "file_name")}
        if self.entry and rest.get("made_by") and rest["made_by"][-1] == _entry(self.manifest(1)):  # said once, by the manifest
            rest["made_by"] = rest["made_by"][:-1]
        rest = {key: value for key, value in rest.items() if key != "made_by" or value}
        return json.dumps(rest)

    def manifest(self, count: int) -> dict[str, Any]:
        return manifest(self.entry, (count, *self.shape))

    def notes(self) -> list[str]:
        return [f"{self.lost} record{'s' * (self.lost != 1)} without an embedding left out"] if self.lost else []


def vector_of(record: Record, where: object) -> np.ndarray:
    """D (or T D) float32. Raises InputError for what is no array of numbers, and for NaN."""
    try:
        vector = np.asarray(record["embedding"], np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"the embedding of {record.name} is no list of numbers", where=where) from error
    if not vector.ndim or not vector.size or not np.isfinite(vector).all():
        raise InputError(f"the embedding of {record.name} holds numbers that are none", where=where, hint="NaN is near to nothing")
    return vector


def check_same(one: dict[str, Any], other: dict[str, Any], where: object = None) -> None:
    """Raises InputError where two manifests (or entries of `made_by`) tell of different models, naming both. What one does not tell is not asked."""
    for key in ("model", "weights_sha256", "layer", "tokens", "normalized", "binary", "img_size"):
        a, b = one.get(key), other.get(key)
        if a != b and (key not in ("model", "weights_sha256") or (a and b)) and one.get("model") and other.get("model"):
            if key == "model":
                raise InputError(f"embeddings of two models: {a} and {b}", where=where, hint="one model makes all that are compared")
            names = f"{one.get('model')} ({key} {_said(a)}) and {other.get('model')} ({key} {_said(b)})"
            raise InputError(f"embeddings made in two ways: {names}", where=where, hint="one way makes all that are compared")


def _said(value: Any) -> str:
    return str(value)[:12] if value is not None else "none"


def read(vectors: np.ndarray, names: Sequence[str], rest: Sequence[str], facts: dict[str, Any], where: object) -> Vectors:
    """A table from what its file holds. Raises InputError where those do not go together."""
    if vectors.ndim not in (2, 3) or len(vectors) != len(names) or len(rest) != len(names):
        raise InputError(f"{len(names)} names do not go with vectors of shape {vectors.shape}", where=where)
    return Vectors(vectors, [restored(name, text, facts) for name, text in zip(names, rest, strict=True)], facts)


def restored(name: str, text: str, facts: dict[str, Any]) -> Record:
    """The record of a row, without its embedding."""
    record = Record(file_name=name, **json.loads(text))
    if facts.get("model"):
        record["made_by"] = [*(record.get("made_by") or ()), _entry(facts)]
    return record


def _entry(facts: dict[str, Any]) -> dict[str, Any]:
    return {"verb": "embed"} | {key: facts[key] for key in MADE if key in facts}


def records(table: Vectors) -> Iterator[Record]:
    """Each row as a record with its `embedding`."""
    for vector, record in zip(table.vectors, table.records, strict=True):
        yield record.changed(embedding=vector.astype(float).tolist())


def of_records(listed: Iterable[Record], where: object) -> Vectors:
    """A table of records in memory. Raises InputError."""
    rows = Rows(where)
    kept: list[Record] = []

    def seen() -> Iterator[Record]:
        for record in listed:
            if "embedding" in record:
                kept.append(record.changed(embedding=None))
            yield record

    vectors = [vector for vector, _, _ in rows.of(seen())]
    if not vectors:
        raise InputError("no embeddings here", where=where, hint=HINT)
    return Vectors(np.stack(vectors), kept, rows.manifest(len(vectors)))


def is_table(path: Path, suffix: str) -> bool:
    return path.is_file() and path.suffix.lower() == suffix
