"""The table of Tesseract: a row for each page, block, paragraph, line and word, twelve columns, confidence from 0 to 100 (-1 above words)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from cvtool.page import Box, Page

DESCRIPTION = "Tesseract's table, a word a row"
SUFFIX = ".tsv"
MANY = True
HEAD = "level page_num block_num par_num line_num word_num left top width height conf text"


def write(pages: Sequence[Page], out: IO[bytes]) -> None:
    """A block is one paragraph. Levels: 1 page, 2 block, 3 paragraph, 4 line, 5 word."""
    rows = ["\t".join(HEAD.split())]
    for p, page in enumerate(pages, 1):
        rows.append(_row(1, [p, 0, 0, 0, 0], (0, 0, page.width, page.height)))
        for b, block in enumerate(page.blocks, 1):
            rows += [_row(2, [p, b, 0, 0, 0], block.box), _row(3, [p, b, 1, 0, 0], block.box)]
            for n, line in enumerate(block.lines, 1):
                rows.append(_row(4, [p, b, 1, n, 0], line.box))
                for w, word in enumerate(line.words, 1):
                    score = "-1" if word.score is None else f"{100 * word.score:.6g}"
                    rows.append(_row(5, [p, b, 1, n, w], word.box, score, " ".join(word.text.split())))
    out.write(("\n".join(rows) + "\n").encode("utf-8", "replace"))


def _row(level: int, places: list[int], box: Box, score: str = "-1", text: str = "") -> str:
    left, top, right, bottom = map(round, box)
    return "\t".join(map(str, [level, *places, left, top, right - left, bottom - top, score, text]))
