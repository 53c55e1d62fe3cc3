"""INPUT, as every verb takes it, into records: lazy, in the order given, in constant memory.

| INPUT | what it gives |
| --- | --- |
| a picture | one record; a TIFF or PDF of several pages one a page, with `page` |
| a folder | the pictures in it and below, in natural order (img2 before img10), hidden files and other suffixes passed over; else its tar shards |
| a pattern in quotes (`'a/**/*.jpg'`) | as the shell would have expanded it, in natural order |
| @list.txt | the paths in that file, one a line, from the current folder |
| a COCO document (.json) | its images, with their ids; its annotations only where `keep_annotations` asks for them |
| JSON lines (.jsonl, .ndjson) | the records as they stand |
| a tar shard (.tar) | the pictures in it |
| - | stdin: a picture's bytes (a TIFF gives its pages), JSON lines (as they come), or a COCO document |

A path that does not exist is a record with `error`, so that the rest go on; a folder or pattern without a single picture is an InputError.
"""

from __future__ import annotations

import contextlib
import glob
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from cvtool.data.roots import Roots
from cvtool.errors import InputError, UsageError
from cvtool.records import STDIN, Record, parse_line, read_lines

MAX_STDIN_PICTURE = 2 * 1024**3  # bytes
_LINES = (".jsonl", ".ndjson")
_HEAD = 64


def read(
    inputs: Sequence[str | os.PathLike],
    *,
    images: str | os.PathLike | None = None,
    files0_from: str | os.PathLike | None = None,
    keep_annotations: bool = False,
    stdin: IO[bytes] | None = None,
) -> Iterator[Record]:
    """The records of all inputs.

    images: the folder under which names inside annotation files (and JSON lines) are looked up.
    files0_from: a file of NUL-separated paths, or "-" for stdin; they come after `inputs`.
    keep_annotations: keep the ground truth of COCO documents (for drawing and training; a detector's boxes must not be mixed with it).
    stdin: another stream than the process's own.
    Raises UsageError for no input at all or stdin asked for twice, InputError for an input with nothing in it.
    """
    listed = [os.fspath(item) for item in inputs]
    zero = None if files0_from is None else os.fspath(files0_from)
    if not listed and zero is None:
        raise UsageError("no input", hint="name files, folders, a COCO file, JSON lines, or - for stdin")
    if listed.count("-") + (zero == "-") > 1:
        raise UsageError("stdin can be read only once")
    folder = None if images is None else Path(images)
    return _read(listed, folder, zero, keep_annotations, stdin)


def _read(listed: list[str], images: Path | None, zero: str | None, keep: bool, stdin: IO[bytes] | None) -> Iterator[Record]:
    for text in listed:
        if text == "-":
            yield from _stdin(stdin or sys.stdin.buffer, images, keep)
        elif text.startswith("@") and not os.path.lexists(text):
            for path in _lines(text[1:]):
                yield from _path(path, images, keep)
        elif _is_pattern(text):
            yield from _pattern(text, images, keep)
        else:
            yield from _path(text, images, keep)
    if zero is not None:
        for path in _zero_separated(zero, stdin):
            yield from _path(path, images, keep)


def _path(text: str, images: Path | None, keep: bool) -> Iterator[Record]:
    """One path, whatever it is."""
    if not text:
        raise UsageError("an input's name is empty")
    if os.path.isdir(text):
        yield from _folder(text)
        return
    suffix = os.path.splitext(text)[1].lower()
    if not os.path.exists(text):
        yield Record(file_name=text, error="no such file")
    elif suffix in _LINES:
        from cvtool.data.formats import jsonl

        yield from jsonl.read(Path(text), images=images)
    elif suffix == ".tar":
        yield from _shard(text)
    elif suffix == ".json":
        from cvtool.data.formats import coco

        yield from _document(coco.read(Path(text), images=images), keep)
    else:
        yield from picture(text)


def _shard(text: str) -> Iterator[Record]:
    """The pictures of a tar shard (WebDataset), without what it says of them."""
    from cvtool.data.formats import webdataset

    for record in webdataset.read(Path(text)):
        yield record.changed(annotations=None, labels=None)


def _document(records: Iterable[Record], keep: bool) -> Iterator[Record]:
    for record in records:
        yield record if keep else record.changed(annotations=None, made_by=None)


def picture(text: str, **keys: object) -> Iterator[Record]:
    """The record of a picture file; for a TIFF or PDF of several pages, one a page."""
    if text.lower().endswith((".tif", ".tiff", ".pdf")):
        from cvtool import images

        try:
            pages = images.pages(text)
        except InputError as error:
            yield Record(file_name=text, **keys).with_error(error)
            return
        if len(pages) > 1:
            yield from (Record(file_name=text, page=page, **keys) for page in pages)
            return
    yield Record(file_name=text, **keys)


def _folder(folder: str) -> Iterator[Record]:
    found = False
    for path in walk(folder):
        found = True
        yield from picture(path)
    for path in () if found else sorted(glob.glob(os.path.join(glob.escape(folder), "*.tar"))):
        found = True
        yield from _shard(path)
    if not found:
        raise InputError("no pictures in this folder", where=folder, hint=_other_files(folder))


def _other_files(folder: str) -> str | None:
    """A hint for a folder of annotation files."""
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError:
        return None
    found = sorted(name for name in names if name.endswith((".json", *_LINES)))
    return f"did you mean {os.path.join(folder, found[0])}?" if found else None


def walk(folder: str) -> Iterator[str]:
    """The pictures in a folder and below it, in natural order, files of a folder before its subfolders; hidden ones are passed over."""
    from cvtool.images import SUFFIXES

    try:
        entries = sorted(os.scandir(folder), key=lambda entry: natural(entry.name))
    except OSError as error:
        raise InputError((error.strerror or str(error)).lower(), where=folder) from error
    folders = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            # a link to a folder above would be walked for ever
            if not entry.is_symlink() or not _above(entry.path, folder):
                folders.append(entry.path)
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield entry.path
    for path in folders:
        yield from walk(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _above(link: str, folder: str) -> bool:
    real, here = os.path.realpath(link), os.path.realpath(folder)
    return os.path.commonpath([real, here]) == real


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key in which numbers count by value: img2 before img10."""
    return [(0, int(part), part) if part.isdecimal() and part.isascii() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def _is_pattern(text: str) -> bool:
    return glob.has_magic(text) and not os.path.lexists(text)


def _pattern(text: str, images: Path | None, keep: bool) -> Iterator[Record]:
    from cvtool.images import SUFFIXES

    matches = sorted(glob.iglob(text, recursive=True), key=lambda path: [natural(part) for part in path.split(os.sep)])
    deep = "**" in text
    found = False
    for path in matches:
        if os.path.isdir(path):
            if not deep:  # `**` has listed what is in it already
                found = True
                yield from (record for file in walk(path) for record in picture(file))
        elif os.path.splitext(path)[1].lower() in (*SUFFIXES, *_LINES, ".json", ".tar", ".pdf"):
            found = True
            yield from _path(path, images, keep)
    if not found:
        raise InputError(f"the pattern '{text}' matches no picture")


def _lines(path: str) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline=None) as file:
            any_line = False
            for i, line in enumerate(file):
                line = line.rstrip("\n")
                if i == 0:
                    line = line.removeprefix("\ufeff")
                if line.strip():
                    any_line = True
                    yield line
    except OSError as error:
        raise InputError(f"cannot read the list: {(error.strerror or str(error)).lower()}", where=path) from error
    if not any_line:
        raise InputError("the list is empty", where=path)


def _zero_separated(path: str, stdin: IO[bytes] | None) -> Iterator[str]:
    try:
        stream = (stdin or sys.stdin.buffer) if path == "-" else open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"cannot read the list: {(error.strerror or str(error)).lower()}", where=path) from error
    rest, found = b"", False
    with stream if path != "-" else io.BytesIO():
        while chunk := stream.read(1 << 16):
            *whole, rest = (rest + chunk).split(b"\0")
            for item in filter(None, whole):
                found = True
                yield os.fsdecode(item)
    if rest.strip():
        found = True
        yield os.fsdecode(rest)
    if not found:
        raise InputError("--files0-from names no file", where=path)


def _stdin(stream: IO[bytes], images: Path | None, keep: bool) -> Iterator[Record]:
    """What came on stdin, told apart by its first bytes."""
    from cvtool.images import looks_like_image

    head = stream.read(_HEAD) if not hasattr(stream, "peek") else _peek(stream)
    if not head:
        raise InputError("stdin is empty", hint="the program before the pipe wrote nothing; its own message says why")
    rest: IO[bytes] = stream if hasattr(stream, "peek") else io.BufferedReader(_Joined(head, stream))  # type: ignore[arg-type]
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if looks_like_image(head):
        data = rest.read(MAX_STDIN_PICTURE + 1)
        if len(data) > MAX_STDIN_PICTURE:
            raise InputError(f"the picture on stdin has more than {MAX_STDIN_PICTURE:,} bytes")
        for page in _pages(data):
            record = Record(file_name=STDIN, **page)
            record.data = data
            yield record
    elif text.startswith(b"{"):
        yield from _objects(rest, images, keep)
    elif text.startswith(b"["):
        hint = "give JSON lines, a COCO document or a picture; COCO results (a bare array) name no pictures"
        raise InputError("a JSON array on stdin", hint=hint)
    else:
        hint = "give a picture's bytes or JSON lines; a list of files is --files0-from - (NUL-separated) or @list.txt"
        raise InputError("stdin is neither a picture nor JSON lines", hint=hint)


def _pages(data: bytes) -> list[dict[str, object]]:
    """What the records of a picture's pages add to its name; a broken picture is told of when it is read."""
    from cvtool import images

    with contextlib.suppress(InputError):
        if len(pages := images.pages(data)) > 1:
            return [{"page": page} for page in pages]
    return [{}]


def _peek(stream: IO[bytes]) -> bytes:
    return stream.peek(_HEAD)[:_HEAD]  # type: ignore[attr-defined]


class _Joined(io.RawIOBase):
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, stream: IO[bytes]) -> None:
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        if self._head:
            part, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        else:
            part = self._stream.read(len(buffer)) or b""
        buffer[: len(part)] = part
        return len(part)


def _objects(stream: IO[bytes], images: Path | None, keep: bool) -> Iterator[Record]:
    """JSON lines or a COCO document: the first line tells, so that lines are passed on as they come."""
    from cvtool.data.formats import coco

    first = stream.readline()
    while first and not first.strip():
        first = stream.readline()
    stripped = first.rstrip()
    whole = stripped.endswith(b"}") and b'"images"' not in first[:4096] and stripped not in (b"{", b"{}")
    if b'"images"' in first and stripped.endswith(b"}"):
        whole = not _is_document(first)
    if not whole:
        text = first + stream.read(coco.MAX_BYTES)
        yield from _document(coco.records(coco.parse(text, Path("stdin")), Path("stdin"), images=images), keep)
        return
    roots = None if images is None else Roots(Path("stdin"), images)
    try:
        decoded = first.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text, so not JSON lines", where="stdin, line 1") from error
    yield _rooted(parse_line(decoded, where="stdin, line 1"), roots)
    for record in read_lines(stream, first_line=2):
        yield _rooted(record, roots)


def _is_document(line: bytes) -> bool:
    import json

    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and isinstance(value.get("images"), list)


def _rooted(record: Record, roots: Roots | None) -> Record:
    if roots is not None and isinstance(record.get("file_name"), str):
        roots.put(record, record["file_name"], where="stdin")
    return record
