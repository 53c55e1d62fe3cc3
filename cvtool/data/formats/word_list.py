"""A word a line, without pictures: what a language model learns from (`cvtool train -m abinet --set learn=language --data words.txt`)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from cvtool.data.formats._files import count, opened_text, output_text
from cvtool.errors import InputError
from cvtool.records import Record

DESCRIPTION = "a text file with a word a line, without pictures"
SUFFIX = ".txt"
ORDER = 95
FALLBACK = True  # asked only where no other format fits
HOLDS = {"text"}
LOOKS, LONGEST = 50, 100  # lines that are looked at, and what a word's length is at most
_WHITE = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==")  # a PNG of one pixel


def recognises(path: Path) -> bool:
    """Lines of one short word each, in a file without a suffix (as /usr/share/dict/words) or a .txt."""
    if not path.is_file() or path.suffix.lower() not in ("", ".txt"):
        return False
    with opened_text(path) as stream:
        try:
            lines = [line.decode("utf-8-sig").strip() for line in islice(stream, LOOKS)]
        except UnicodeDecodeError:
            return False
    return any(lines) and all(len(line) <= LONGEST and line.isprintable() and len(line.split()) <= 1 for line in lines)


def splits(path: Path) -> list[str]:
    return []


def categories(path: Path) -> list[dict]:
    return []


def read(path: Path, *, images: Path | None = None, split: str | None = None) -> Iterator[Record]:
    """A record a word, with the word as its `text`; its picture is one white pixel. Empty lines are passed over."""
    with opened_text(path) as stream:
        for number, line in enumerate(stream, 1):
            try:
                word = line.decode("utf-8-sig").strip()
            except UnicodeDecodeError as error:
                raise InputError("not UTF-8 text", where=f"{path}, line {number}", hint="iconv -t UTF-8 makes it so") from error
            if word:
                record = Record(id=number, width=1, height=1, text=word)
                record.data = _WHITE
                yield record


def write(records: Iterable[Record], out: Path | IO[str], **options: object) -> list[str]:
    """Each picture's text, a line each."""
    without = 0
    with output_text(out) as stream:
        for record in records:
            text = record.get("text")
            if isinstance(text, str) and text.strip():
                stream.write(" ".join(text.split()) + "\n")
            else:
                without += 1
    return [f"{count(without, 'picture')} without text left out"] if without else []
