"""NumPy array of embeddings: N D float32 in x.npy, as it is mapped into memory, and beside it x.npy.jsonl: the manifest, then a line a row.

The rows are streamed, so that neither writing nor searching a table of ten million holds it in memory. An array without lines beside it is a table
too: its rows have numbers for names.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cvtool.errors import InputError
from cvtool.records import Record

if TYPE_CHECKING:
    from cvtool.data.formats._vectors import Vectors

DESCRIPTION = "a table of embeddings (NumPy .npy), memory-mapped; names in lines beside it"
SUFFIX = ".npy"
ORDER = 96
LOSSLESS = True
BESIDE = ".jsonl"
_HEADER = 128  # bytes, written last, when the count is known


def recognises(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".npy" and _lines_of(path).is_file()


def splits(path: Path) -> list[str]:
    return []


def categories(path: Path) -> list[dict]:
    return []


def _lines_of(path: Path) -> Path:
    return path.with_name(path.name + BESIDE)


class Lines(Sequence[Record]):
    """The records of a file of lines, found by their places when they are asked for. Raises InputError for a file that is cut."""

    def __init__(self, path: Path, facts: dict[str, Any], count: int) -> None:
        import numpy as np

        self.path, self.facts = path, facts
        held = np.memmap(path, np.uint8, "r")
        step = 1 << 26
        ends = [np.flatnonzero(held[start : start + step] == 10) + start for start in range(0, len(held), step)]
        self.ends = np.concatenate(ends)
        self.held = held
        if len(self.ends) - 1 != count:
            raise InputError(f"{len(self.ends) - 1} lines do not go with {count} vectors", where=path)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, row: Any) -> Any:
        from cvtool.data.formats import _vectors

        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        line = json.loads(bytes(self.held[self.ends[row] + 1 : self.ends[row + 1]]))
        return _vectors.restored(line.pop("file_name", ""), json.dumps(line), self.facts)


class _Numbered(Sequence[Record]):
    """Rows of an array that names none."""

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.length = path, count

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(self.length))]
        if not -self.length <= row < self.length:
            raise IndexError(row)
        return Record(file_name=f"{self.path}:{row % self.length}")


def table(path: Path) -> Vectors:
    """The table, mapped into memory. Raises InputError for a file that is none."""
    import numpy as np

    from cvtool.data.formats import _vectors

    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError("this is no table of embeddings", where=path, hint=_vectors.HINT) from error
    if vectors.ndim not in (2, 3) or vectors.dtype.kind != "f":
        raise InputError(f"an array of {vectors.dtype} {vectors.shape} is no table of embeddings", where=path, hint="N D, float32 or float16")
    lines = _lines_of(path)
    if not lines.is_file():
        return _vectors.Vectors(vectors, _Numbered(path, len(vectors)), _vectors.manifest({}, vectors.shape))
    with lines.open("rb") as stream:
        first = stream.readline()
    try:
        facts = json.loads(first)["manifest"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("its first line is no manifest", where=lines) from error
    return _vectors.Vectors(vectors, Lines(lines, facts, len(vectors)), facts)


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a row, with its `embedding`. Raises InputError for a file that is no such table."""
    from cvtool.data.formats import _vectors

    yield from _vectors.records(table(path))


def write(records: Iterable[Record], out: Path | IO[str], **options: object) -> list[str]:
    """Row by row. Records without an embedding are left out and counted. Raises InputError for embeddings of several models."""
    from cvtool.data.formats import _vectors

    if not isinstance(out, Path):
        raise InputError("an .npy file is written with -o FILE.npy, not to a stream")
    rows, count = _vectors.Rows(out), 0
    draft = _lines_of(out).with_name(_lines_of(out).name + ".new")
    try:
        with out.open("wb") as vectors, draft.open("w", encoding="utf-8") as lines:
            vectors.write(bytes(_HEADER))
            for vector, name, rest in rows.of(records):
                vectors.write(vector.astype("<f4").tobytes())
                lines.write(json.dumps({"file_name": name} | json.loads(rest)) + "\n")
                count += 1
            vectors.seek(0)
            vectors.write(header((count, *(rows.shape or (0,)))))
        with draft.open("rb") as lines, _lines_of(out).open("wb") as whole:
            whole.write(json.dumps({"manifest": rows.manifest(count)}).encode() + b"\n")
            while part := lines.read(1 << 24):
                whole.write(part)
    finally:
        draft.unlink(missing_ok=True)
    return rows.notes()


def header(shape: tuple[int, ...]) -> bytes:
    """The first 128 bytes of an .npy file of float32 (numpy's format 1.0)."""
    text = repr({"descr": "<f4", "fortran_order": False, "shape": shape})
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", _HEADER - 10) + text.ljust(_HEADER - 11).encode() + b"\n"
