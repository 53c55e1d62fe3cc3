"""NumPy archive of embeddings: `vectors` N D float32 and `file_name` N, what `cvtool embed -o photos.npz` writes and `--search` reads.

`record` holds the rest of each record as JSON, `manifest` how they were made. Nothing in it is pickled.
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
LOSSLESS = True


def recognises(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".npz"


def splits(path: Path) -> list[str]:
    return []


def categories(path: Path) -> list[dict]:
    return []


def table(path: Path):  # type: ignore[no-untyped-def]
    """The whole table (`_vectors.Vectors`). Raises InputError for a file that is none."""
    import numpy as np

    from cvtool.data.formats import _vectors

    try:
        with np.load(path, allow_pickle=False) as held:
            vectors, names = held["vectors"], held["file_name"].tolist()
            rest = held["record"].tolist() if "record" in held.files else ["{}"] * len(names)
            facts = json.loads(str(held["manifest"])) if "manifest" in held.files else {}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError("this is no table of embeddings", where=path, hint=_vectors.HINT) from error
    return _vectors.read(vectors, names, rest, facts, path)


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a row, with its `embedding`. Raises InputError for a file that is no such table."""
    from cvtool.data.formats import _vectors

    yield from _vectors.records(table(path))


def write(records: Iterable[Record], out: Path | IO[str], **options: object) -> list[str]:
    """All rows at once. Records without an embedding are left out and counted. Raises InputError for embeddings of several models."""
    import numpy as np

    from cvtool.data.formats import _vectors

    if not isinstance(out, Path):
        raise InputError("an .npz file is written with -o FILE.npz, not to a stream")
    rows = _vectors.Rows(out)
    listed = list(rows.of(records))
    vectors, names, rest = zip(*listed, strict=True) if listed else ((), (), ())
    held = {
        "vectors": np.stack(vectors) if vectors else np.zeros((0, 0), np.float32),
        "file_name": np.array(names, str),
        "record": np.array(rest, str),
        "manifest": np.array(json.dumps(rows.manifest(len(names)))),
    }
    draft = out.with_name(f".{out.name}.{os.getpid()}.npz")
    try:
        np.savez_compressed(draft, **held)  # type: ignore[arg-type]
        os.replace(draft, out)
    finally:
        draft.unlink(missing_ok=True)
    return rows.notes()
