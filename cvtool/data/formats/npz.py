"""NumPy archive of embeddings: `vectors` N D float32 and `file_name` N, what `cvtool embed -o photos.npz` writes and `--search` reads.

`record` holds the rest of each record as JSON. Nothing in it is pickled.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from cvtool.errors import InputError
from cvtool.records import Record

DESCRIPTION = "a table of embeddings (NumPy .npz): vectors and file names"
SUFFIX = ".npz"
ORDER = 95


def recognises(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".npz"


def splits(path: Path) -> list[str]:
    return []


def categories(path: Path) -> list[dict]:
    return []


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a row, with its `embedding`. Raises InputError for a file that is no such table."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as table:
            vectors, names = table["vectors"], table["file_name"].tolist()
            rest = table["record"].tolist() if "record" in table.files else ["{}"] * len(names)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError("this is no table of embeddings", where=path, hint="`cvtool embed PHOTOS -m REF -o FILE.npz` makes one") from error
    if vectors.ndim != 2 or len(vectors) != len(names):
        raise InputError(f"{len(names)} names do not go with vectors of shape {vectors.shape}", where=path)
    for vector, name, text in zip(vectors.astype(float).tolist(), names, rest, strict=True):
        yield Record(file_name=name, **json.loads(text), embedding=vector)


def write(records: Iterable[Record], out: Path | IO[str], **options: object) -> list[str]:
    """All rows at once. Records without an embedding are left out and counted."""
    import numpy as np

    if not isinstance(out, Path):
        raise InputError("an .npz file is written with -o FILE.npz, not to a stream")
    rows, names, rest, lost = [], [], [], 0
    for record in records:
        if "embedding" not in record:
            lost += 1
            continue
        rows.append(np.asarray(record["embedding"], np.float32))
        names.append(str(record.get("file_name", "")))
        rest.append(json.dumps({key: value for key, value in record.items() if key not in ("embedding", "file_name")}))
    if len({len(row) for row in rows}) > 1:
        raise InputError("the embeddings are of different lengths: several models made them", where=out)
    table = {"vectors": np.stack(rows) if rows else np.zeros((0, 0), np.float32), "file_name": np.array(names, str), "record": np.array(rest, str)}
    draft = out.with_name(f".{out.name}.{os.getpid()}.npz")
    try:
        np.savez_compressed(draft, **table)  # type: ignore[arg-type]
        os.replace(draft, out)
    finally:
        draft.unlink(missing_ok=True)
    return [f"{lost} record{'s' * (lost != 1)} without an embedding left out"] if lost else []
