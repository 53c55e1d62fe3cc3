"""Parquet of embeddings, for data frames: the columns `file_name`, `embedding` (a list of float32) and `record`; the manifest in its metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cvtool.errors import InputError, MissingDependency
from cvtool.records import Record

if TYPE_CHECKING:
    from cvtool.data.formats._vectors import Vectors

DESCRIPTION = "a table of embeddings (Parquet; needs pyarrow)"
SUFFIX = ".parquet"
ORDER = 98
LOSSLESS = True


def recognises(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".parquet"


def splits(path: Path) -> list[str]:
    return []


def categories(path: Path) -> list[dict]:
    return []


def require() -> Any:
    """pyarrow with its parquet. Raises MissingDependency."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependency("Parquet needs pyarrow, which is not installed", hint="pip install 'cvtool[parquet]'") from error
    return pyarrow


def table(path: Path) -> Vectors:
    """The whole table. Raises InputError for a file that is none, MissingDependency."""
    import numpy as np

    from cvtool.data.formats import _vectors

    pa = require()
    try:
        held = pa.parquet.read_table(path)
        facts = json.loads((held.schema.metadata or {}).get(b"manifest", b"{}"))
        names, width = held["file_name"].to_pylist(), facts.get("dims")
        flat = held["embedding"].combine_chunks().flatten()
        rest = held["record"].to_pylist() if "record" in held.column_names else ["{}"] * len(names)
        vectors = np.asarray(flat.to_numpy(zero_copy_only=False), np.float32)
        vectors = vectors.reshape(len(names), *([-1, width] if facts.get("tokens") else [-1])) if names else np.zeros((0, 0), np.float32)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise InputError("this is no table of embeddings", where=path, hint=_vectors.HINT) from error
    return _vectors.read(vectors, names, rest, facts, path)


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a row, with its `embedding`. Raises InputError for a file that is no such table."""
    from cvtool.data.formats import _vectors

    yield from _vectors.records(table(path))


def write(records: Iterable[Record], out: Path | IO[str], **options: object) -> list[str]:
    """All rows at once; the tokens of a picture one after another. Raises InputError for embeddings of several models, MissingDependency."""
    from cvtool.data.formats import _vectors

    if not isinstance(out, Path):
        raise InputError("a .parquet file is written with -o FILE.parquet, not to a stream")
    pa = require()
    rows = _vectors.Rows(out)
    listed = list(rows.of(records))
    columns = {
        "file_name": pa.array([name for _, name, _ in listed], pa.string()),
        "embedding": pa.array([vector.ravel() for vector, _, _ in listed], pa.list_(pa.float32())),
        "record": pa.array([rest for _, _, rest in listed], pa.string()),
    }
    done = pa.table(columns).replace_schema_metadata({"manifest": json.dumps(rows.manifest(len(listed)))})
    pa.parquet.write_table(done, out)
    return rows.notes()
