"""Point clouds: the vertices of a .ply file (Turk 1994), text or binary of either byte order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvtool.errors import InputError

_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8"}
_TYPES |= {"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"}
_ORDER = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_KNOWN = {"x", "y", "z", "nx", "ny", "nz", "red", "green", "blue", "alpha", "r", "g", "b", "a", "intensity", "confidence", "curvature"}
MAX_POINTS = 50_000_000


@dataclass(frozen=True)
class Cloud:
    """points: N 3 float64. descriptors: N D, the properties that are none of the usual ones; None where there are none."""

    points: np.ndarray
    descriptors: np.ndarray | None


def read(path: str | Path) -> Cloud:
    """The vertices. Raises InputError for what is no such file, has no x y z, is cut, or holds NaN."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError("no such file" if isinstance(error, FileNotFoundError) else str(error.strerror).lower(), where=path) from error
    head, mark, body = data.partition(b"end_header")
    if not head.startswith(b"ply") or not mark:
        raise InputError("this is no .ply file", where=path)
    body = body[body.index(b"\n") + 1 :] if b"\n" in body else b""
    form, count, columns = _header(head.decode("ascii", "replace").splitlines(), path)
    kind = np.dtype([(name, _ORDER[form] + code) for name, code in columns])
    try:
        if form == "ascii":
            lines = body.decode("ascii").splitlines()[:count]
            rows = np.array([[float(word) for word in line.split()[: len(columns)]] for line in lines])
            if rows.shape != (count, len(columns)):
                raise ValueError
            values = {name: rows[:, i] for i, (name, _) in enumerate(columns)}
        else:
            table = np.frombuffer(body, kind, count)
            values = {name: table[name].astype(np.float64) for name, _ in columns}
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"its {count:,} points are not all there", where=path) from error
    points = np.stack([values[axis] for axis in "xyz"], 1)
    more = [name for name, _ in columns if name.lower() not in _KNOWN]
    descriptors = np.stack([values[name] for name in more], 1) if len(more) >= 3 else None
    if not np.isfinite(points).all() or (descriptors is not None and not np.isfinite(descriptors).all()):
        raise InputError("some of its points are NaN or infinite", where=path)
    return Cloud(points, descriptors)


def _header(lines: list[str], path: Path) -> tuple[str, int, list[tuple[str, str]]]:
    """(form, how many vertices, their properties); vertices must come first, as they do in every file seen."""
    form, count, columns, element = "", 0, list[tuple[str, str]](), ""
    for line in lines:
        words = line.split()
        if words[:1] == ["format"] and len(words) > 1:
            form = words[1]
        elif words[:1] == ["element"] and len(words) == 3:
            if words[1] == "vertex" and element:
                raise InputError(f"its vertices stand behind its {element}s", where=path, hint="write the vertices first")
            element = words[1]
            count = int(words[2]) if element == "vertex" and words[2].isdecimal() else count
        elif words[:1] == ["property"] and element == "vertex":
            if len(words) != 3 or words[1] not in _TYPES:
                raise InputError(f"a property of its vertices is no number: {line}", where=path)
            columns.append((words[2], _TYPES[words[1]]))
    if form not in _ORDER:
        raise InputError(f"a .ply file of the unknown form '{form}'", where=path)
    if not {"x", "y", "z"} <= {name for name, _ in columns}:
        raise InputError("its vertices have no x, y and z", where=path)
    if not 0 < count <= MAX_POINTS:
        raise InputError(f"it has {count:,} points", where=path, hint=f"between 1 and {MAX_POINTS:,}")
    return form, count, columns
