"""JSON as docTR exports it: pages of blocks of lines of words, places relative to the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import IO, Any

from cvtool.data.pages._xml import upright
from cvtool.page import Page, Quad

DESCRIPTION = "JSON like docTR's, nested"
SUFFIX = ".json"
MANY = True


def write(pages: Sequence[Page], out: IO[bytes]) -> None:
    """Two corners for upright boxes, four for slanted ones, in [0, 1]; `dimensions` are height and width. The order is that of reading."""
    found = [_page(page, index) for index, page in enumerate(pages)]
    out.write((json.dumps({"pages": found}, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "backslashreplace"))


def _page(page: Page, index: int) -> dict[str, Any]:
    def place(quad: Quad) -> list[list[float]]:
        corners = [quad[0], quad[2]] if upright(quad) else quad
        return [[round(x / page.width, 6), round(y / page.height, 6)] for x, y in corners]

    blocks = []
    for block in page.blocks:
        lines = []
        for line in block.lines:
            words = [{"value": word.text, "confidence": word.score, "geometry": place(word.quad)} for word in line.words]
            lines.append({"geometry": place(line.quad), "words": words})
        left, top, right, bottom = block.box
        outline = place(((left, top), (right, top), (right, bottom), (left, bottom)))
        blocks.append({"geometry": outline, "lines": lines, "artefacts": []})
    turn = {"value": page.orientation, "confidence": None}
    return {
        "page_idx": index, "file_name": page.name, "dimensions": [page.height, page.width], "orientation": turn,
        "language": {"value": None, "confidence": None}, "blocks": blocks,
    }  # fmt: skip
