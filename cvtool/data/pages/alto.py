"""ALTO 4.2, the layout and text of libraries (Library of Congress, http://www.loc.gov/standards/alto)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import IO

from cvtool import __version__
from cvtool.data.pages._xml import attribute, number, text, upright
from cvtool.page import HYPHENS, Box, Line, Page, Quad, Word

DESCRIPTION = "ALTO 4 XML"
SUFFIX = ".alto.xml"
MANY = True
SPACE = "http://www.loc.gov/standards/alto/ns-v4#"


def write(pages: Sequence[Page], out: IO[bytes]) -> None:
    """Boxes of whole pixels, polygons where the text is slanted, `WC` the word's score. Where hyphens are joined, the two parts of a word say so."""
    names = list(dict.fromkeys(page.name for page in pages))
    makers = list(dict.fromkeys(page.maker for page in pages if page.maker))
    parts = [
        f'<?xml version="1.0" encoding="UTF-8"?>\n<alto xmlns="{SPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xsi:schemaLocation="{SPACE} http://www.loc.gov/standards/alto/v4/alto-4-2.xsd" SCHEMAVERSION="4.2">\n'
        " <Description>\n  <MeasurementUnit>pixel</MeasurementUnit>\n"
    ]
    if names:
        parts.append(f"  <sourceImageInformation><fileName>{text(names[0])}</fileName></sourceImageInformation>\n")
    settings = f"<processingStepSettings>{text(', '.join(makers))}</processingStepSettings>" if makers else ""
    software = f"<softwareName>cvtool</softwareName><softwareVersion>{text(__version__)}</softwareVersion>"
    step = f"<processingCategory>contentGeneration</processingCategory>{settings}<processingSoftware>{software}</processingSoftware>"
    parts.append(f'  <Processing ID="processing_1">{step}</Processing>\n </Description>\n <Layout>\n')
    for p, page in enumerate(pages, 1):
        score = "" if page.score is None else f' PC="{page.score:.4f}"'
        parts.append(f'  <Page ID="page_{p}" PHYSICAL_IMG_NR="{page.number}" WIDTH="{page.width}" HEIGHT="{page.height}"{score}>\n')
        parts.append(f'   <PrintSpace ID="space_{p}" {_place((0, 0, page.width, page.height))}>\n')
        n = w = 0
        broken = _broken(page) if page.joined else {}
        for b, block in enumerate(page.blocks, 1):
            parts.append(f'    <TextBlock ID="block_{p}_{b}" {_place(block.box)}>\n')
            for line in block.lines:
                n += 1
                baseline = " ".join(f"{number(x)},{number(y)}" for x, y in line.baseline)
                parts.append(f'     <TextLine ID="line_{p}_{n}" {_place(line.box)} BASELINE="{baseline}">{_shape(line.quad)}\n')
                for i, word in enumerate(line.words):
                    w += 1
                    if i:
                        parts.append(_blank(line.words[i - 1], word))
                    parts.append(_string(f"string_{p}_{w}", word, broken.get(id(word), "")))
                parts.append("     </TextLine>\n")
            parts.append("    </TextBlock>\n")
        parts.append("   </PrintSpace>\n  </Page>\n")
    out.write("".join([*parts, " </Layout>\n</alto>\n"]).encode("utf-8", "replace"))


def _place(box: Box) -> str:
    left, top, right, bottom = map(round, box)
    return f'HPOS="{left}" VPOS="{top}" WIDTH="{right - left}" HEIGHT="{bottom - top}"'


def _shape(quad: Quad) -> str:
    if upright(quad):
        return ""
    points = " ".join(f"{number(x)},{number(y)}" for x, y in quad)
    return f'<Shape><Polygon POINTS="{points}"/></Shape>'


def _blank(before: Word, word: Word) -> str:
    left, right = round(before.box[2]), round(word.box[0])
    return f'      <SP HPOS="{left}" VPOS="{round(word.box[1])}" WIDTH="{max(right - left, 0)}"/>\n'


def _string(name: str, word: Word, more: str) -> str:
    score = "" if word.score is None else f' WC="{word.score:.4f}"'
    head = f'      <String ID="{name}" {_place(word.box)}{score} CONTENT={attribute(word.text)}{more}'
    shape = _shape(word.quad)
    return f"{head}>{shape}</String>\n" if shape else f"{head}/>\n"


def _broken(page: Page) -> dict[int, str]:
    """Of the words that a hyphen divides between two lines, what says which part they are, and of what."""
    found: dict[int, str] = {}
    lines: list[Line] = list(page.lines)
    for one, other in pairwise(lines):
        last, first = one.words[-1], other.words[0]
        if len(last.text) > 1 and last.text[-1] in HYPHENS and last.text[-2].isalpha() and first.text[:1].islower():
            whole = attribute(last.text[:-1] + first.text)
            found[id(last)] = f' SUBS_TYPE="HypPart1" SUBS_CONTENT={whole}'
            found[id(first)] = f' SUBS_TYPE="HypPart2" SUBS_CONTENT={whole}'
    return found
