"""Safetensors of embeddings: the tensor `vectors` N D float32; the manifest and the records, a JSON line each, in the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cvtool.errors import InputError
from cvtool.records import Record

if TYPE_CHECKING:
    from cvtool.data.formats._vectors import Vectors

DESCRIPTION = "a table of embeddings (.safetensors)"
SUFFIX = ".safetensors"
ORDER = 97
LOSSLESS = True


def recognises(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() != ".safetensors":
        return False
    with path.open("rb") as stream:  # a checkpoint ends so too
        size = int.from_bytes(stream.read(8), "little")
        return b'"manifest"' in stream.read(min(size, 1 << 20))


def splits(path: Path) -> list[str]:
    return []


def categories(path: Path) -> list[dict]:
    return []


def table(path: Path) -> Vectors:
    """The whole table. Raises InputError for a file that is none."""
    from safetensors import SafetensorError, safe_open

    from cvtool.data.formats import _vectors

    try:
        with safe_open(path, framework="numpy") as held:
            facts = held.metadata() or {}
            vectors, manifest = held.get_tensor("vectors"), json.loads(facts["manifest"])
            lines = [json.loads(line) for line in facts["records"].splitlines()]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError("this is no table of embeddings", where=path, hint=_vectors.HINT) from error
    names = [line.pop("file_name", "") for line in lines]
    return _vectors.read(vectors, names, [json.dumps(line) for line in lines], manifest, path)


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a row, with its `embedding`. Raises InputError for a file that is no such table."""
    from cvtool.data.formats import _vectors

    yield from _vectors.records(table(path))


def write(records: Iterable[Record], out: Path | IO[str], **options: object) -> list[str]:
    """All rows at once. Records without an embedding are left out and counted. Raises InputError for embeddings of several models."""
    import numpy as np
    from safetensors.numpy import save_file

    from cvtool.data.formats import _vectors

    if not isinstance(out, Path):
        raise InputError("a .safetensors file is written with -o FILE.safetensors, not to a stream")
    rows = _vectors.Rows(out)
    listed = list(rows.of(records))
    vectors = np.stack([vector for vector, _, _ in listed]) if listed else np.zeros((0, 0), np.float32)
    lines = "\n".join(json.dumps({"file_name": name} | json.loads(rest)) for _, name, rest in listed)
    save_file({"vectors": vectors}, out, metadata={"manifest": json.dumps(rows.manifest(len(listed))), "records": lines})
    return rows.notes()
