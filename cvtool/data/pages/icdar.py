"""The text files of the ICDAR competitions: a word a line, its eight corner coordinates and its text with commas between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from cvtool.page import Page

DESCRIPTION = "ICDAR's x1,y1,...,x4,y4,text, a word a line"
PREFIX = "res_"  # as the competitions name what was found
SUFFIX = ".txt"
MANY = False


def write(pages: Sequence[Page], out: IO[bytes]) -> None:
    """Whole pixels. A text may hold commas: what reads it splits eight times."""
    (page,) = pages
    rows = [",".join([*(str(round(value)) for point in word.quad for value in point), " ".join(word.text.split())]) for word in page.words]
    out.write("".join(row + "\n" for row in rows).encode("utf-8", "replace"))
