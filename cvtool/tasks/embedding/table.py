"""A table of embeddings: read from any file that holds one, compared by the distance that suits it, refused for another model's vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvtool.data import formats
from cvtool.data.formats import _vectors
from cvtool.errors import InputError, UsageError, did_you_mean
from cvtool.ops import nearest as exact
from cvtool.records import Record

ARRAYS = (".npz", ".npy", ".safetensors", ".parquet")  # what cannot be anything else but a table
SUFFIXES = (*ARRAYS, ".jsonl", ".ndjson", ".csv")


class Table:
    """vectors: N D float32 or float16, perhaps memory-mapped. records: the row's picture, without its embedding. manifest: how they were made."""

    def __init__(self, vectors: np.ndarray, records: Sequence[Record], manifest: dict[str, Any], where: object = None) -> None:
        """Raises InputError where there is no vector, or a picture has several."""
        if vectors.ndim == 3:
            raise InputError("it holds a vector for every position, and one a picture is needed", where=where, hint="embed without --tokens")
        if not len(vectors) or vectors.ndim != 2:
            raise InputError("no embeddings here", where=where, hint=_vectors.HINT)
        self.vectors, self.records, self.manifest, self.where = vectors, records, manifest, where

    @classmethod
    def of(cls, records: Iterable[Record], *, where: object = None) -> Table:
        """Raises InputError where there are no embeddings, some of different lengths, of different models, or NaN."""
        held = _vectors.of_records(records, where)
        return cls(held.vectors, held.records, held.manifest, where)

    @classmethod
    def read(cls, path: Path, *, queries: bool = False) -> Table:
        """From .npz, .npy, .safetensors, .parquet, .csv or JSON lines. queries: their NaN are looked for one by one, later. Raises InputError,
        MissingDependency."""
        if not path.is_file():
            raise InputError("a folder is no table" if path.is_dir() else "no such table", where=path, hint=_vectors.HINT)
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise InputError(f"no table of embeddings ends in '{suffix}'", where=path, hint="one of " + ", ".join(SUFFIXES))
        module = formats.get("jsonl" if suffix == ".ndjson" else suffix[1:])
        if suffix not in ARRAYS:
            return cls.of(module.read(path), where=path)
        held = module.table(path)
        if not queries and held.vectors.size and not np.isfinite(held.vectors[:: max(1, len(held.vectors) // 1000)]).all():
            raise InputError("its vectors hold numbers that are none (NaN)", where=path)
        return cls(held.vectors, held.records, held.manifest, path)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def binary(self) -> bool:
        """Whether the vectors are bits: as the manifest says, else as the first thousand look."""
        return bool(self.manifest.get("binary", False) if self.manifest.get("model") else np.isin(self.vectors[:1000], (0, 1)).all())

    @property
    def model(self) -> str | None:
        """What made them, if they say so."""
        return self.manifest.get("model")

    def accept(self, made: dict[str, Any], where: object = None) -> None:
        """Raises InputError, naming both, where what made other vectors is not what made these."""
        _vectors.check_same(self.manifest, made, where)

    def query(self, vectors: np.ndarray) -> np.ndarray:
        """M D queries, checked. Raises InputError for another number of columns, and for NaN."""
        if vectors.shape[-1] != self.vectors.shape[1]:
            raise InputError(f"a query has {vectors.shape[-1]} numbers, the table {self.vectors.shape[1]}", hint="the same model makes both")
        if not np.isfinite(vectors).all():
            raise InputError("a query holds numbers that are none (NaN)")
        return vectors

    def nearest(self, queries: np.ndarray, count: int, *, distance: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """For each of M D queries the `count` nearest rows, nearest first, and their scores, both M count.

        distance: cosine (score: the cosine), l2 (minus the distance) or hamming (the share of equal bits); None: hamming for bits, else cosine.
        """
        how = chosen(distance, self)
        return exact.nearest(self.query(queries), self.vectors, count, how, unit_rows=bool(self.manifest.get("normalized")))


def chosen(distance: str | None, table: Table | None) -> str:
    """The distance asked for, or the one that suits the table. Raises UsageError."""
    if distance is None:
        return "hamming" if table is not None and table.binary else "cosine"
    if distance not in exact.DISTANCES:
        raise UsageError(f"unknown distance '{distance}'", hint=did_you_mean(distance, exact.DISTANCES) or "distances: " + ", ".join(exact.DISTANCES))
    if distance == "hamming" and table is not None and not table.binary:
        raise UsageError("hamming counts bits, and these embeddings are numbers", hint="`cvtool embed --binary` makes bits; or --distance cosine")
    return distance


def far(score: Any, distance: str) -> Any:
    """A score as a distance: 1 - cosine, the Euclidean distance, or the share of bits that differ."""
    return -score if distance == "l2" else 1 - score


def near(threshold: float, distance: str) -> float:
    """The score of a distance."""
    return -threshold if distance == "l2" else 1 - threshold
