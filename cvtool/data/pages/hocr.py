"""hOCR 1.2: an XHTML page whose elements say where their text stood (Breuel 2007, doi:10.1109/ICDAR.2007.4377078)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import IO

from cvtool import __version__
from cvtool.data.pages._xml import attribute, number, text
from cvtool.page import Box, Line, Page, Word

DESCRIPTION = "hOCR, XHTML with places"
SUFFIX = ".hocr"
MANY = True

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>{title}</title>
  <meta http-equiv="Content-Type" content="text/html;charset=utf-8"/>
  <meta name="ocr-system" content={system}/>
  <meta name="ocr-capabilities" content="ocr_page ocr_carea ocr_par ocr_line ocrx_word ocrp_wconf"/>
 </head>
 <body>
"""


def write(pages: Sequence[Page], out: IO[bytes]) -> None:
    """Baselines are those of `Line.baseline`; `x_wconf` is 100 times the word's score."""
    title = pages[0].name if pages else ""
    parts = [HEAD.format(title=text(title), system=attribute(f"cvtool {__version__}"))]
    for p, page in enumerate(pages, 1):
        title = f'image "{page.name}"; bbox 0 0 {page.width} {page.height}; ppageno {p - 1}'
        parts.append(f'  <div class="ocr_page" id="page_{p}" title={attribute(title)}>\n')
        n = w = 0
        for b, block in enumerate(page.blocks, 1):
            parts.append(f'   <div class="ocr_carea" id="block_{p}_{b}" title="{_box(block.box)}">\n')
            parts.append(f'    <p class="ocr_par" id="par_{p}_{b}" title="{_box(block.box)}">\n')
            for line in block.lines:
                n += 1
                parts.append(f'     <span class="ocr_line" id="line_{p}_{n}" title="{_line(line)}">')
                words = []
                for word in line.words:
                    w += 1
                    words.append(f'<span class="ocrx_word" id="word_{p}_{w}" title="{_word(word)}">{text(word.text)}</span>')
                parts.append(" ".join(words) + "</span>\n")
            parts.append("    </p>\n   </div>\n")
        parts.append("  </div>\n")
    out.write("".join([*parts, " </body>\n</html>\n"]).encode("utf-8", "replace"))


def _box(box: Box) -> str:
    return "bbox " + " ".join(str(max(round(v), 0)) for v in box)


def _line(line: Line) -> str:
    """hOCR's baseline: slope and height above (negative) the lower left corner of the box; of steep lines the angle alone."""
    (x0, y0), (x1, y1) = line.baseline
    size = f"; x_size {number(max(word.height for word in line.words))}"
    if abs(y1 - y0) > abs(x1 - x0) or x1 < x0:
        return f"{_box(line.box)}; textangle {number(math.degrees(math.atan2(y0 - y1, x1 - x0)))}{size}"
    slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0
    offset = y0 + slope * (line.box[0] - x0) - line.box[3]
    return f"{_box(line.box)}; baseline {slope:.3f} {number(offset)}{size}"


def _word(word: Word) -> str:
    return _box(word.box) + ("" if word.score is None else f"; x_wconf {round(100 * word.score)}")
