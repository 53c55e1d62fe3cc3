"""Tar archives as folders: where each member's bytes stand, from one pass over the headers. Nothing is unpacked.

A member's name is ARCHIVE.tar/MEMBER, which `opened` opens like a file. Read are POSIX ustar and pax, GNU (long names, large sizes) and the old v7
form, as Python's tarfile and tar(1) write them.
"""

from __future__ import annotations

import errno
import io
import mmap
import os
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from cvtool.errors import InputError

if TYPE_CHECKING:
    import tarfile

BLOCK = 512
MAX_NAME = 1 << 20  # bytes of a long name or of a pax header
_FILES = (b"0", b"\0", b"7")
_FOLDERS = (b"5",)
_PACKED = ((b"\x1f\x8b", "gunzip"), (b"BZh", "bunzip2"), (b"\xfd7zXZ", "unxz"), (b"\x28\xb5\x2f\xfd", "unzstd"))


class Member(NamedTuple):
    name: str
    offset: int  # of its first byte
    size: int


def opened(path: str | os.PathLike) -> IO[bytes]:
    """A file, or a member of an archive by its name. Raises OSError as `open` does, InputError for a damaged archive."""
    try:
        return open(path, "rb")
    except NotADirectoryError:
        if (place := _place(os.fspath(path))) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)) from None
        archive, member = place
        with open(archive, "rb") as file:
            file.seek(member.offset)
            return io.BytesIO(file.read(member.size))


def exists(path: str | os.PathLike) -> bool:
    """Whether there is a file or folder of that name, or a member of an archive."""
    return os.path.exists(path) or (".tar/" in os.fspath(path) and _place(os.fspath(path)) is not None)


def _place(path: str) -> tuple[str, Member] | None:
    """The archive that a name leads into, and the member."""
    archive, found, inside = path.rpartition(".tar/")
    archive += ".tar"
    if not found or not os.path.isfile(archive):
        return None
    facts = os.stat(archive)
    member = _index(archive, facts.st_mtime_ns, facts.st_size).get(inside)
    return None if member is None else (archive, member)


@lru_cache(maxsize=64)
def _index(archive: str, changed: int, size: int) -> dict[str, Member]:
    return {member.name: member for member, _ in members(archive)}


def _file(path: str | Path) -> IO[bytes]:
    try:
        return open(path, "rb")
    except OSError as error:
        raise InputError((error.strerror or str(error)).lower(), where=path) from error


def members(path: str | Path) -> Iterator[tuple[Member, Callable[[], bytes]]]:
    """The files of an archive in their order, each with a function that gives its bytes.

    Raises InputError, naming the archive and the member, for anything that is not a whole tar, and for a name that leads out of it.
    """
    with _file(path) as file:
        if not (size := file.seek(0, 2)):
            raise InputError("the file is empty", where=path)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield from _members(data, size, Path(path))


def _members(data: mmap.mmap, end: int, path: Path) -> Iterator[tuple[Member, Callable[[], bytes]]]:
    at, name, own_size = 0, "", -1  # the name and size that a header of its own gives to the next member
    last = "the first member"
    while at + BLOCK <= end:
        head = data[at : at + BLOCK]
        if not any(head):
            return
        if not _sums_up(head):
            hint = next(
                (f"{tool} it first: a packed tar cannot be read picture by picture" for magic, tool in _PACKED if head.startswith(magic)), None
            )
            raise InputError(f"not a tar archive after {last}" if at else "not a tar archive", where=path, hint=hint)
        kind, size = head[156:157], _number(head[124:136], path, last) if own_size < 0 else own_size
        start = at + BLOCK
        title = name or _name(head)
        if start + size > end:
            raise InputError(f"the archive is cut off in '{title}': {size:,} bytes announced, {end - start:,} there", where=path)
        at, own_size = start + -(-size // BLOCK) * BLOCK, -1
        if kind in (b"L", b"x"):
            if size > MAX_NAME:
                raise InputError(f"a header of {size:,} bytes after {last}", where=path)
            text = data[start : start + size]
            if kind == b"L":
                name = text.rstrip(b"\0").decode("utf-8", "surrogateescape")
            else:
                facts = _facts(text, path, last)
                name, own_size = facts.get("path", name), int(facts["size"]) if facts.get("size", "").isdecimal() else -1
            continue
        name = ""
        if kind in (b"g", b"K", *_FOLDERS):
            continue
        if kind not in _FILES:
            raise InputError(f"'{title}' is no plain file but a link or a device", where=path)
        parts = title.split("/")
        if title.startswith("/") or ".." in parts or "\0" in title:
            raise InputError(f"the member's name '{title}' leads out of the archive", where=path)
        plain = "/".join(part for part in parts if part not in ("", "."))
        last = f"'{plain}'"
        yield Member(plain, start, size), partial(_part, data, start, start + size)


def _part(data: mmap.mmap, start: int, end: int) -> bytes:
    return data[start:end]


def _sums_up(head: bytes) -> bool:
    """Whether the header's checksum is that of its bytes, its own eight counted as blanks."""
    try:
        stated = int(head[148:156].split(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        return False
    return stated == sum(head) - sum(head[148:156]) + 8 * 32


def _number(text: bytes, path: Path, last: str) -> int:
    """Octal digits; or, with the first bit set, a number of base 256."""
    try:
        found = int.from_bytes(text[1:], "big") if text[0] == 0x80 else int(text.split(b"\0")[0].strip() or b"0", 8)
    except ValueError as error:
        raise InputError(f"a size that is no number after {last}", where=path) from error
    return found


def _name(head: bytes) -> str:
    name, prefix = (part.split(b"\0")[0].decode("utf-8", "surrogateescape") for part in (head[:100], head[345:500]))
    return f"{prefix}/{name}" if prefix and head[257:263] == b"ustar\0" else name


def _facts(text: bytes, path: Path, last: str) -> dict[str, str]:
    """A pax header: records of "LENGTH KEY=VALUE" and a line feed, each as long as it says."""
    found = {}
    while text:
        length, _, _ = text.partition(b" ")
        if not length.isdigit() or not len(length) + 1 < int(length) <= len(text):
            raise InputError(f"a damaged pax header after {last}", where=path)
        key, _, value = text[len(length) + 1 : int(length) - 1].partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        text = text[int(length) :]
    return found


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Append a file whose header says nothing of when and by whom, so that equal contents make equal archives."""
    import tarfile

    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
