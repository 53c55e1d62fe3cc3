"""Tables of numbers in JSON, CSV, TSV or NumPy files: a row a unit."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from cvtool.errors import InputError

MAX_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class Numbers:
    """values: N D float64, finite. names: of the rows, or None where the file gives none. columns: their names, or None."""

    values: np.ndarray
    names: list[str] | None = None
    columns: list[str] | None = None
    where: str = ""

    def labels(self) -> list[str]:
        """The rows' names, else their numbers from 1."""
        return self.names or [str(number) for number in range(1, len(self.values) + 1)]


def read(source: str | os.PathLike, stdin: IO[bytes] | None = None, *, array: str | None = None) -> Numbers:
    """A file's numbers; one row may be written as a plain list.

    | file | what it holds |
    | --- | --- |
    | .npy | N D, or D for one row |
    | .npz | the array called `array`, `vectors` or the only one; `file_name`: the rows' names |
    | .csv, .tsv | a row a line; a first line without numbers names the columns, a first column without numbers the rows |
    | .json, or "-" | a list of numbers or of lists, an object of name -> list (or number), or a list of objects with a `name` (`file_name`) |

    Raises InputError for anything else, for rows of different lengths and for what is not finite.
    """
    text = os.fspath(source)
    where = "stdin" if text == "-" else text
    path = Path(text)
    if text != "-":
        if not path.is_file():
            raise InputError("no such file" if not path.exists() else "a folder, and a file of numbers is needed", where=where)
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"the file has {path.stat().st_size:,} bytes, more than {MAX_BYTES:,}", where=where)
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz") and text != "-":
        found = _numpy(path, array)
    elif suffix in (".csv", ".tsv") and text != "-":
        found = _csv(path.read_text(encoding="utf-8-sig"), "\t" if suffix == ".tsv" else ",", where)
    elif suffix == ".json" or text == "-":
        data = (stdin or sys.stdin.buffer).read(MAX_BYTES) if text == "-" else path.read_bytes()
        found = _json(data, where)
    else:
        raise InputError("not a file of numbers", where=where, hint="a .json, .csv, .tsv, .npy or .npz file")
    if not found.values.size:
        raise InputError("there are no numbers in it", where=where)
    bad = np.argwhere(~np.isfinite(found.values))
    if len(bad):
        row, column = bad[0]
        raise InputError(f"row {found.labels()[row]} holds {found.values[row, column]} at place {column + 1}", where=where)
    return found


def _numpy(path: Path, array: str | None) -> Numbers:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return Numbers(_table(loaded, str(path)), where=str(path))
        with loaded:
            own = [key for key in loaded.files if loaded[key].dtype.kind in "fiub"]
            key = next((key for key in (array, "vectors") if key in loaded.files), own[0] if len(own) == 1 else None)
            if key is None:
                raise InputError(f"it holds the arrays {', '.join(loaded.files)}", where=path, hint="call the one to be measured 'vectors'")
            names = [str(name) for name in loaded["file_name"]] if "file_name" in loaded.files else None
            return Numbers(_table(loaded[key], str(path)), names, where=str(path))
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise InputError("not a NumPy file of plain arrays", where=path) from error


def _table(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype.kind not in "fiub" or array.ndim > 2:
        raise InputError(f"an array of shape {array.shape} of {array.dtype} is no table of numbers", where=where)
    return np.atleast_2d(array.astype(np.float64))


def _csv(text: str, delimiter: str, where: str) -> Numbers:
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(cell.strip() for cell in row)]
    if not rows:
        raise InputError("the file is empty", where=where)
    columns = rows.pop(0) if not any(_is_number(cell) for cell in rows[0]) else None
    if not rows:
        raise InputError("there are no numbers in it", where=where)
    names = None
    if any(not _is_number(row[0]) for row in rows):
        names = [row[0] for row in rows]
        rows, columns = [row[1:] for row in rows], columns[1:] if columns else None
    return Numbers(_rectangle(rows, names, where), names, columns, where)


def _json(data: bytes, where: str) -> Numbers:
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {str(error).splitlines()[0]}", where=where) from error
    names, columns = None, None
    if isinstance(value, dict):
        names, rows = list(value), [item if isinstance(item, list) else [item] for item in value.values()]
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        columns = [key for key, one in value[0].items() if isinstance(one, (int, float)) and not isinstance(one, bool)]
        names = [str(item.get("name") or item.get("file_name") or number) for number, item in enumerate(value, 1)]
        rows = [[item.get(key) for key in columns] for item in value]
    elif isinstance(value, list) and all(isinstance(item, list) for item in value):
        rows = value
    elif isinstance(value, list):
        rows = [value]
    else:
        raise InputError("no table of numbers", where=where, hint="a list of numbers or of lists of them, or an object of name and list")
    return Numbers(_rectangle(rows, names, where), names, columns, where)


def _rectangle(rows: list[list[Any]], names: list[str] | None, where: str) -> np.ndarray:
    """Raises InputError with the first row that is longer or shorter, or holds something else than numbers."""
    for number, row in enumerate(rows):
        name = names[number] if names else str(number + 1)
        if len(row) != len(rows[0]):
            raise InputError(f"row {name} has {len(row)} numbers, the first has {len(rows[0])}", where=where)
        for cell in row:
            if isinstance(cell, bool) or not (isinstance(cell, (int, float)) or (isinstance(cell, str) and _is_number(cell))):
                raise InputError(f"row {name} holds {cell!r}, which is no number", where=where)
    return np.array([[float(cell) for cell in row] for row in rows], np.float64).reshape(len(rows), -1)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def matched(gt: Numbers, dt: Numbers) -> tuple[np.ndarray, np.ndarray, list[str], str, list[str]]:
    """The rows of both sides that belong together, N D and N D, their names, how they were matched, and warnings.

    By name where both have names, else by place. Raises InputError where the tables do not go together.
    """
    if gt.values.shape[1] != dt.values.shape[1]:
        raise InputError(f"rows of {dt.values.shape[1]} numbers, and the ground truth's have {gt.values.shape[1]}", where=dt.where)
    if gt.names is None or dt.names is None:
        if len(gt.values) != len(dt.values):
            raise InputError(
                f"{len(dt.values):,} rows, and the ground truth has {len(gt.values):,}", where=dt.where, hint="rows with names are matched by them"
            )
        return gt.values, dt.values, gt.labels(), f"matched {len(gt.values):,} rows by their place", []
    for side in (gt, dt):
        if len(set(side.names or ())) < len(side.names or ()):
            double = next(name for number, name in enumerate(side.names or ()) if name in (side.names or ())[:number])
            raise InputError(f"two rows are called {double}", where=side.where)
    places = {name: number for number, name in enumerate(dt.names)}
    names = [name for name in gt.names if name in places]
    if not names:
        raise InputError(f"no row of the same name: {', '.join(dt.names[:3])}; ground truth: {', '.join(gt.names[:3])}", where=dt.where)
    rows = [number for number, name in enumerate(gt.names) if name in places]
    warnings = []
    for side, own in ((gt, "ground truth"), (dt, "other side")):
        if lost := [name for name in side.names or () if name not in set(names)]:
            warnings.append(f"{len(lost):,} rows of the {own} have no counterpart and are left out: {', '.join(lost[:5])}")
    how = f"matched {len(names):,} of {len(gt.names):,} rows by name"
    return gt.values[rows], dt.values[[places[name] for name in names]], names, how, warnings
