"""PAGE XML of 2019: regions, lines and words with their outlines (Pletschacher 2010, doi:10.1109/ICPR.2010.72)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import IO

from cvtool import __version__
from cvtool.data.pages._xml import attribute, points, text
from cvtool.page import Page

DESCRIPTION = "PAGE XML (PRImA), a page a file"
SUFFIX = ".page.xml"
MANY = False
SPACE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"


def write(pages: Sequence[Page], out: IO[bytes]) -> None:
    """One page: the format holds no more. Raises ValueError for more or none."""
    (page,) = pages
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    score = "" if page.score is None else f' conf="{page.score:.4f}"'
    turn = f' orientation="{page.orientation if page.orientation <= 180 else page.orientation - 360}"' if page.orientation else ""
    parts = [
        f'<?xml version="1.0" encoding="UTF-8"?>\n<PcGts xmlns="{SPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xsi:schemaLocation="{SPACE} {SPACE}/pagecontent.xsd">\n'
        f" <Metadata><Creator>cvtool {text(__version__)}</Creator><Created>{now}</Created><LastChange>{now}</LastChange></Metadata>\n"
        f' <Page imageFilename={attribute(page.name)} imageWidth="{page.width}" imageHeight="{page.height}"{turn}{score}>\n'
    ]
    if page.blocks:
        parts.append('  <ReadingOrder><OrderedGroup id="order">\n')
        parts += [f'   <RegionRefIndexed index="{b}" regionRef="region_{b + 1}"/>\n' for b in range(len(page.blocks))]
        parts.append("  </OrderedGroup></ReadingOrder>\n")

    def coords(corners: Sequence[tuple[float, float]], name: str = "Coords") -> str:
        return f'<{name} points="{points(corners, page.width, page.height)}"/>'

    n = w = 0
    for b, block in enumerate(page.blocks, 1):
        left, top, right, bottom = block.box
        parts.append(f'  <TextRegion id="region_{b}" type="paragraph">')
        parts.append(coords([(left, top), (right, top), (right, bottom), (left, bottom)]) + "\n")
        for line in block.lines:
            n += 1
            parts.append(f'   <TextLine id="line_{n}">{coords(line.quad)}{coords(line.baseline, "Baseline")}\n')
            for word in line.words:
                w += 1
                parts.append(f'    <Word id="word_{w}">{coords(word.quad)}{_said(word.text, word.score)}</Word>\n')
            parts.append(f"    {_said(line.text, line.score)}\n   </TextLine>\n")
        parts.append(f"   {_said(block.text, None)}\n  </TextRegion>\n")
    out.write("".join([*parts, " </Page>\n</PcGts>\n"]).encode("utf-8", "replace"))


def _said(words: str, score: float | None) -> str:
    sure = "" if score is None else f' conf="{score:.4f}"'
    return f"<TextEquiv{sure}><Unicode>{text(words)}</Unicode></TextEquiv>"
