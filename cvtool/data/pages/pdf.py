"""A PDF that can be searched: the picture of each page, and over each word of it the same word, invisible.

Words stand at their own places, in reading order, at their own slant; each is as wide and as high as what it stands on. Written with the standard
library: PDF 1.5, ISO 32000.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import IO

from cvtool import __version__
from cvtool.data.pages import _glyphless
from cvtool.data.pages._scan import scan
from cvtool.page import Page, Point, Word

DESCRIPTION = "PDF that can be searched: the pictures, with invisible text"
SUFFIX = ".pdf"
MANY = True
GAP = 0.2  # of the height of the words: the least space between two

_TO_UNICODE = b"""/CIDInit /ProcSet findresource begin 12 dict begin begincmap
/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def
/CMapName /Adobe-Identity-UCS def /CMapType 2 def
1 begincodespacerange <0000> <FFFF> endcodespacerange
1 beginbfrange <0000> <FFFF> <0000> endbfrange
endcmap CMapName currentdict /CMap defineresource pop end end"""


class _Writer:
    """Objects, numbered as they come; the table of their places at the end."""

    def __init__(self, out: IO[bytes]) -> None:
        self.out, self.size = out, 0
        self.places: dict[int, int] = {}
        self.count = 0
        self._put(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")

    def _put(self, data: bytes) -> None:
        self.out.write(data)
        self.size += len(data)

    def number(self) -> int:
        """That of an object which comes later."""
        self.count += 1
        return self.count

    def add(self, body: str, stream: bytes | None = None, *, number: int | None = None) -> int:
        """An object; with `stream`, body is what stands in its dictionary beside the length."""
        own = self.number() if number is None else number
        self.places[own] = self.size
        self._put(b"%d 0 obj\n" % own)
        if stream is None:
            self._put(body.encode("ascii") + b"\nendobj\n")
        else:
            self._put(f"<< {body} /Length {len(stream)} >>\nstream\n".encode("ascii") + stream + b"\nendstream\nendobj\n")
        return own

    def packed(self, stream: bytes, more: str = "") -> int:
        return self.add(f"/Filter /FlateDecode {more}".rstrip(), zlib.compress(stream, 9))

    def end(self, root: int, info: int) -> None:
        start = self.size
        self._put(b"xref\n0 %d\n0000000000 65535 f \n" % (self.count + 1))
        for number in range(1, self.count + 1):
            self._put(b"%010d 00000 n \n" % self.places[number])
        self._put(f"trailer\n<< /Size {self.count + 1} /Root {root} 0 R /Info {info} 0 R >>\nstartxref\n{start}\n%%EOF\n".encode("ascii"))


def write(pages: Sequence[Page], out: IO[bytes]) -> None:
    """A page is as large as its picture says (dots per inch; 200 where it does not) and shown upright. Raises InputError where it cannot be read."""
    writer = _Writer(out)
    tree, font = writer.number(), _font(writer)
    numbers = [_page(writer, page, tree, font) for page in pages]
    kids = " ".join(f"{number} 0 R" for number in numbers)
    writer.add(f"<< /Type /Pages /Kids [{kids}] /Count {len(numbers)} >>", number=tree)
    root = writer.add(f"<< /Type /Catalog /Pages {tree} 0 R >>")
    writer.end(root, writer.add(f"<< /Producer (cvtool {__version__}) >>"))


def _font(writer: _Writer) -> int:
    """Codes are UTF-16 units, and every one of them is drawn by the same glyph."""
    file = _glyphless.font()
    program = writer.packed(file, f"/Length1 {len(file)}")
    ascent, descent = _glyphless.ASCENT, _glyphless.DESCENT
    descriptor = writer.add(
        f"<< /Type /FontDescriptor /FontName /GlyphlessFont /Flags 5 /FontBBox [0 {descent} {_glyphless.WIDTH} {ascent}] /ItalicAngle 0"
        f" /Ascent {ascent} /Descent {descent} /CapHeight {ascent} /StemV 80 /FontFile2 {program} 0 R >>"
    )
    glyphs = writer.packed(b"\0\1" * 65536)
    font = writer.add(
        f"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /GlyphlessFont /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >>"
        f" /FontDescriptor {descriptor} 0 R /DW {_glyphless.WIDTH} /CIDToGIDMap {glyphs} 0 R >>"
    )
    unicode = writer.packed(_TO_UNICODE)
    return writer.add(
        f"<< /Type /Font /Subtype /Type0 /BaseFont /GlyphlessFont /Encoding /Identity-H /DescendantFonts [{font} 0 R] /ToUnicode {unicode} 0 R >>"
    )


def _page(writer: _Writer, page: Page, tree: int, font: int) -> int:
    picture = scan(page.record)
    image = writer.add(
        f"/Type /XObject /Subtype /Image /Width {picture.width} /Height {picture.height} /ColorSpace /{picture.space}"
        f" /BitsPerComponent {picture.bits} /Filter /{picture.filter}",
        picture.data,
    )
    scale = 72 / picture.dpi
    width, height = picture.width * scale, picture.height * scale
    content = f"q {width:.3f} 0 0 {height:.3f} 0 0 cm /Im Do Q\nBT 3 Tr\n" + "".join(_text(page, scale, height)) + "ET\n"
    stream = writer.packed(content.encode("ascii"))
    turn = f" /Rotate {page.orientation}" if page.orientation else ""
    return writer.add(
        f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 {width:.3f} {height:.3f}]{turn}"
        f" /Resources << /Font << /F {font} 0 R >> /XObject << /Im {image} 0 R >> >> /Contents {stream} 0 R >>"
    )


def _text(page: Page, scale: float, height: float) -> Iterator[str]:
    for line in page.lines:
        for word, after in zip(line.words, (*line.words[1:], None), strict=True):
            if word.text:
                yield _word(word, after, line.direction, scale, height)


def _word(word: Word, after: Word | None, direction: Point, scale: float, height: float) -> str:
    """One word, turned as its line is; behind it a blank, if another word comes after it."""
    ux, uy = direction
    start, end, top, bottom = _extent(word, direction)
    if not end > start:
        return ""
    size = max(bottom - top, 1.0)
    if after is not None:
        begin, _, above, below = _extent(after, direction)
        if begin > start:  # words that touch are one to readers, whatever stands between them
            end = max(min(end, begin - GAP * max(size, below - above)), (start + end) / 2)
    bottom += size * _glyphless.DESCENT / _glyphless.UNITS
    units = word.text.encode("utf-16-be", "replace")
    stretch = 100 * (end - start) / (len(units) / 2 * size * _glyphless.WIDTH / _glyphless.UNITS)
    x, y = start * ux - bottom * uy, start * uy + bottom * ux
    cosine, sine = ux, -uy  # y points up in a PDF
    place = f"{cosine:.5f} {sine:.5f} {-sine:.5f} {cosine:.5f} {x * scale:.3f} {height - y * scale:.3f} Tm"
    shown = f"/F {size * scale:.3f} Tf {stretch:.3f} Tz {place} <{units.hex().upper()}> Tj\n"
    if abs(ux) < 1 and abs(uy) < 1:  # Poppler breaks a slanted word in pieces, but not what is said to be one
        shown = f"/Span << /ActualText <FEFF{units.hex().upper()}> >> BDC\n{shown}EMC\n"
    return shown if after is None else f"{shown}<0020> Tj\n"


def _extent(word: Word, direction: Point) -> tuple[float, float, float, float]:
    """From where to where a word lies along its line, and across it."""
    ux, uy = direction
    along = [x * ux + y * uy for x, y in word.quad]
    across = [y * ux - x * uy for x, y in word.quad]
    return min(along), max(along), min(across), max(across)
