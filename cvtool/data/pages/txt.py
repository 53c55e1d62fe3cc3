"""Plain text: lines in reading order, an empty line between blocks, a form feed between pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from cvtool.page import Page

DESCRIPTION = "plain text in reading order"
SUFFIX = ".txt"
MANY = True


def write(pages: Sequence[Page], out: IO[bytes]) -> None:
    """UTF-8; a page without text is empty."""
    out.write("\f".join(page.text + "\n" if page.text else "" for page in pages).encode("utf-8", "replace"))
