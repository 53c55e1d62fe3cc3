"""A TrueType font without a mark in it: what invisible text of a PDF is set in.

Every character is drawn by the same glyph, half as wide as it is high, so that a word's width is known without tables; what the characters are says
the PDF's own map. The glyph is a line there and back: it covers nothing, yet has the extent of its character, by which readers (PDFium, thus Chrome)
know what a pointer or a mark is to touch; an empty one they take to be flat, and leave out on pages that are turned.
"""

from __future__ import annotations

import struct

UNITS = 1000  # of the em
WIDTH = 500
ASCENT, DESCENT = 800, -200  # one em together: a word's size is its height


def font() -> bytes:
    """The file. Two glyphs: the empty one for what is missing, and the one for everything."""
    glyph = _line()
    tables = {
        b"OS/2": _os2(),
        b"cmap": struct.pack(">HHHHLHHH", 0, 1, 1, 0, 12, 6, 10, 0) + struct.pack(">HH", 0, 0),
        b"glyf": glyph,
        b"head": struct.pack(">LLLLHHQQhhhhHHhhh", 0x10000, 0x10000, 0, 0x5F0F3CF5, 3, UNITS, 0, 0, 0, DESCENT, WIDTH, ASCENT, 0, 8, 2, 0, 0),
        b"hhea": struct.pack(">LhhhHhhhhhhhhhhhH", 0x10000, ASCENT, DESCENT, 0, WIDTH, 0, 0, WIDTH, 1, 0, 0, 0, 0, 0, 0, 0, 1),
        b"hmtx": struct.pack(">Hhh", WIDTH, 0, 0),
        b"loca": struct.pack(">HHH", 0, 0, len(glyph) // 2),
        b"maxp": struct.pack(">L14H", 0x10000, 2, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0),
        b"name": _name("GlyphlessFont"),
        b"post": struct.pack(">LLhhLLLLL", 0x30000, 0, 0, 0, 1, 0, 0, 0, 0),
    }
    power = len(tables).bit_length() - 1
    head = struct.pack(">LHHHH", 0x10000, len(tables), 16 << power, power, 16 * len(tables) - (16 << power))
    offset = len(head) + 16 * len(tables)
    directory, body = b"", b""
    for tag, data in sorted(tables.items()):
        directory += struct.pack(">4sLLL", tag, _sum(data), offset + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    whole = head + directory + body
    adjustment = (0xB1B0AFBA - _sum(whole)) & 0xFFFFFFFF
    place = offset + sum(len(data) + -len(data) % 4 for tag, data in sorted(tables.items()) if tag < b"head") + 8
    return whole[:place] + struct.pack(">L", adjustment) + whole[place + 4 :]


def _line() -> bytes:
    """A contour of two points, on the curve: (0, descent) and (width, ascent)."""
    box = struct.pack(">hhhhh", 1, 0, DESCENT, WIDTH, ASCENT)
    points = b"\1\1" + struct.pack(">hhhh", 0, WIDTH, DESCENT, ASCENT - DESCENT)
    data = box + struct.pack(">HH", 1, 0) + points
    return data + b"\0" * (-len(data) % 4)


def _sum(data: bytes) -> int:
    data += b"\0" * (-len(data) % 4)
    return sum(struct.unpack(f">{len(data) // 4}L", data)) & 0xFFFFFFFF


def _os2() -> bytes:
    """Version 3."""
    head = struct.pack(">HhHHH", 3, WIDTH, 400, 5, 0)
    sub_and_super = struct.pack(">11h", *[0] * 11)
    return (
        head + sub_and_super + b"\0" * 10 + struct.pack(">4L", 1, 0, 0, 0) + b"    "
        + struct.pack(">HHHhhhHHLLhhHHH", 64, 0, 0xFFFF, ASCENT, DESCENT, 0, ASCENT, -DESCENT, 1, 0, 500, 700, 0, 32, 1)
    )  # fmt: skip


def _name(text: str) -> bytes:
    """Family, style, unique name, full name, version and PostScript name, for Windows."""
    values = {1: text, 2: "Regular", 3: text, 4: text, 5: "Version 1.0", 6: text}
    records, strings = b"", b""
    for number, value in values.items():
        data = value.encode("utf-16-be")
        records += struct.pack(">HHHHHH", 3, 1, 0x409, number, len(data), len(strings))
        strings += data
    return struct.pack(">HHH", 0, len(values), 6 + len(records)) + records + strings
