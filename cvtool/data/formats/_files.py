"""What the formats share: opening text, writing under a temporary name, placing pictures in a folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from cvtool.errors import InputError
from cvtool.records import Record


@contextlib.contextmanager
def opened_text(path: str | Path) -> Iterator[IO[bytes]]:
    """A file for reading as bytes; a missing or unreadable one is an InputError."""
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(reason(error), where=path) from error
    with file:
        yield file


def reason(error: OSError) -> str:
    """The system's error in words."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    return (error.strerror or str(error)).lower()


@contextlib.contextmanager
def output_text(out: str | Path | IO[str]) -> Iterator[IO[str]]:
    """A text stream as it is, or a file that appears under its name only when it is whole."""
    if hasattr(out, "write"):
        yield out  # type: ignore[misc]
        return
    path = Path(out)  # type: ignore[arg-type]
    if path.exists() and not path.is_file():  # /dev/null, a named pipe: nothing to rename over
        with path.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            yield stream
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def place(record: Record, target: Path, *, copy: bool) -> bool:
    """Put a record's picture into a data set's folder: a relative link, or a copy of its bytes. False where there is no such picture."""
    source = Path(str(record.get("file_name") or ""))
    if record.data is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(record.data)
        return True
    if not source.is_file():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and os.path.samefile(source, target) and not target.is_symlink():
        return True
    temporary = target.with_name(f".{target.name}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    if not copy:
        try:
            temporary.symlink_to(os.path.relpath(source.resolve(), target.parent.resolve()))
        except OSError:  # a file system without links
            copy = True
    if copy:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)
    return True


def count(number: int, thing: str) -> str:
    """`1 box`, `3 boxes`."""
    if number == 1:
        return f"1 {thing}"
    plural = thing[:-1] + "ies" if thing.endswith("y") else thing + "es" if thing.endswith(("x", "s")) else thing + "s"
    return f"{number:,} {plural}"
