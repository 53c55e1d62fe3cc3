"""Pieces of XML."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.sax.saxutils import escape

from cvtool.page import Point, Quad

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold, even escaped


def text(value: str) -> str:
    """Text between tags."""
    return escape(_ILLEGAL.sub("\ufffd", value))


def attribute(value: object) -> str:
    """An attribute's value, in double quotes."""
    return '"' + escape(_ILLEGAL.sub("\ufffd", str(value)), {'"': "&quot;", "\n": "&#10;", "\t": "&#9;", "\r": "&#13;"}) + '"'


def number(value: float) -> str:
    """With one digit behind the point where there is need of it."""
    return f"{value:.1f}".removesuffix(".0")


def points(corners: Iterable[Point], width: int, height: int) -> str:
    """`x,y x,y`: whole pixels inside the picture."""
    return " ".join(f"{min(max(round(x), 0), width)},{min(max(round(y), 0), height)}" for x, y in corners)


def upright(quad: Quad) -> bool:
    """Whether it is a box whose sides are those of the picture."""
    a, b, c, d = quad
    return a[0] == d[0] and b[0] == c[0] and a[1] == b[1] and c[1] == d[1] and a[0] <= b[0] and a[1] <= d[1]
