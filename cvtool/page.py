"""A page that was read: blocks of lines of words, each with its corners, in reading order; from records and into them.

Corners are absolute pixels of the picture as it is read (upright by EXIF), clockwise, from the one at which reading begins. Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from cvtool.records import Record

Point = tuple[float, float]
Quad = tuple[Point, Point, Point, Point]
Box = tuple[float, float, float, float]  # x0, y0, x1, y1

DESCENDERS = frozenset("gjpqyQ,;()[]{}|@$§/\\çÇµþýÿ„‚")
DESCENT = 0.22  # of the height of a word, what lies under the baseline where a letter reaches down
HYPHENS = "-\u2010\u00ad\u00ac"
_BROKEN = re.compile(rf"[^\W\d_][{HYPHENS}]$")  # a hyphen after a letter, not a dash alone


@dataclass(frozen=True)
class Word:
    """score: probability that all of the text is right, in [0, 1]; None where nobody said."""

    quad: Quad
    text: str
    score: float | None = None

    @cached_property
    def box(self) -> Box:
        return bounds([self.quad])

    @property
    def height(self) -> float:
        """Of its left and right sides, the mean."""
        a, b, c, d = self.quad
        return (math.dist(a, d) + math.dist(b, c)) / 2

    @property
    def baseline(self) -> tuple[Point, Point]:
        """Where it stands: its lower side, moved up where a letter of it reaches below the line."""
        a, b, c, d = self.quad
        up = DESCENT if DESCENDERS & set(self.text) else 0.0
        return (d[0] + up * (a[0] - d[0]), d[1] + up * (a[1] - d[1])), (c[0] + up * (b[0] - c[0]), c[1] + up * (b[1] - c[1]))


@dataclass(frozen=True)
class Line:
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def score(self) -> float | None:
        return mean(word.score for word in self.words)

    @cached_property
    def box(self) -> Box:
        return bounds(word.quad for word in self.words)

    @cached_property
    def direction(self) -> Point:
        """Of length 1, along the upper and lower sides of its words."""
        x = sum(b[0] - a[0] + c[0] - d[0] for a, b, c, d in (word.quad for word in self.words))
        y = sum(b[1] - a[1] + c[1] - d[1] for a, b, c, d in (word.quad for word in self.words))
        length = math.hypot(x, y)
        return (x / length, y / length) if length else (1.0, 0.0)

    @cached_property
    def quad(self) -> Quad:
        """The smallest rectangle along the line that holds its words."""
        ux, uy = self.direction
        points = [point for word in self.words for point in word.quad]
        along, across = [x * ux + y * uy for x, y in points], [y * ux - x * uy for x, y in points]
        ends = ((min(along), min(across)), (max(along), min(across)), (max(along), max(across)), (min(along), max(across)))
        a, b, c, d = ((s * ux - t * uy, s * uy + t * ux) for s, t in ends)
        return a, b, c, d

    @cached_property
    def baseline(self) -> tuple[Point, Point]:
        """Two points, as far apart as the line is long: parallel to the line, at the median height of its words' own."""
        ux, uy = self.direction
        ends = [point for word in self.words for point in word.baseline]
        across = sorted(y * ux - x * uy for x, y in ends)
        middle = (across[(len(across) - 1) // 2] + across[len(across) // 2]) / 2
        along = [x * ux + y * uy for x, y in (self.quad[0], self.quad[1])]
        start, end = ((s * ux - middle * uy, s * uy + middle * ux) for s in along)
        return start, end


@dataclass(frozen=True)
class Block:
    """Lines that belong together: a paragraph, a heading, a caption."""

    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)

    @cached_property
    def box(self) -> Box:
        return bounds(line.quad for line in self.lines)


@dataclass(frozen=True)
class Page:
    """name: of the file; number: of the page in it, from 1. orientation: degrees, clockwise, by which the picture has to be turned to be upright.

    joined: whether words that a hyphen divides between two lines are one word in `text`.
    """

    name: str
    width: int
    height: int
    blocks: tuple[Block, ...] = ()
    number: int = 1
    orientation: int = 0
    joined: bool = False
    maker: str = ""
    record: Record = field(default_factory=Record, compare=False, repr=False)

    @property
    def lines(self) -> Iterator[Line]:
        return (line for block in self.blocks for line in block.lines)

    @property
    def words(self) -> Iterator[Word]:
        return (word for line in self.lines for word in line.words)

    @property
    def score(self) -> float | None:
        return mean(word.score for word in self.words)

    @property
    def text(self) -> str:
        """The lines in reading order, an empty line between blocks; without a line feed at the end."""
        blocks = [[line.text for line in block.lines] for block in self.blocks]
        return "\n\n".join("\n".join(lines) for lines in (joined(blocks) if self.joined else blocks) if lines)

    @classmethod
    def of(cls, record: Record, *, joined: bool = False) -> Page:
        """What a record of `cvtool ocr` says. Words without `block`, `line` and `word` of their own come after the others, a line each."""
        width, height = record.size()
        number = record.get("page")
        makers = [entry for entry in record.get("made_by") or () if entry.get("verb") == "ocr"]
        turn = record.get("orientation")
        return cls(
            name=record.name, width=width, height=height, blocks=_blocks(record.get("annotations") or ()),
            number=number + 1 if isinstance(number, int) else 1, orientation=turn if isinstance(turn, int) else 0, joined=joined,
            maker=str(makers[-1].get("model", "")) if makers else "", record=record,
        )  # fmt: skip


def entries(blocks: Iterable[Block]) -> list[dict[str, Any]]:
    """The words as annotations of a record, in reading order, with their places: block, line in the block, word in the line, from 1."""
    found = []
    for b, block in enumerate(blocks, 1):
        for n, line in enumerate(block.lines, 1):
            for w, word in enumerate(line.words, 1):
                ring = [round(value, 2) for point in word.quad for value in point]
                x, y = ring[::2], ring[1::2]
                box = [min(x), min(y), round(max(x) - min(x), 2), round(max(y) - min(y), 2)]
                entry = {"bbox": box, "category_id": 1, "category": "text", "segmentation": [ring], "text": word.text}
                score = {} if word.score is None else {"score": round(word.score, 6)}
                found.append(entry | score | {"block": b, "line": n, "word": w})
    return found


def joined(blocks: Sequence[Sequence[str]]) -> list[list[str]]:
    """Lines of blocks in which a word that a hyphen divides stands whole at the end of the first of the two lines.

    Only before a small letter: what follows a hyphen in "Spider-\\nMan" is a word of its own.
    """
    out = [list(lines) for lines in blocks]
    places = [(b, n) for b, lines in enumerate(out) for n in range(len(lines))]
    for (b, n), (c, m) in pairwise(places):
        head, _, rest = out[c][m].partition(" ")
        if _BROKEN.search(out[b][n]) and head[:1].islower():
            out[b][n] = out[b][n][:-1] + head
            out[c][m] = rest
    return [[line for line in lines if line] for lines in out]


def bounds(quads: Iterable[Quad]) -> Box:
    """The smallest upright box around them."""
    points = [point for quad in quads for point in quad]
    x, y = [point[0] for point in points], [point[1] for point in points]
    return min(x), min(y), max(x), max(y)


def mean(scores: Iterable[float | None]) -> float | None:
    """Of those that are known."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None


def quad_of(entry: dict[str, Any]) -> Quad | None:
    """The corners of an annotation: its polygon of four points, else its box; None without either."""
    shape = entry.get("segmentation")
    if isinstance(shape, list) and len(shape) == 1 and len(shape[0]) == 8:
        a, b, c, d = ((float(x), float(y)) for x, y in zip(shape[0][::2], shape[0][1::2], strict=True))
        return a, b, c, d
    box = entry.get("bbox")
    if not box:
        return None
    x, y, w, h = map(float, box)
    return (x, y), (x + w, y), (x + w, y + h), (x, y + h)


def _blocks(entries: Sequence[dict[str, Any]]) -> tuple[Block, ...]:
    lines: dict[tuple[int, int], list[tuple[int, Word]]] = {}
    alone = 0
    for entry in entries:
        quad, text, score = quad_of(entry), entry.get("text"), entry.get("score")
        if quad is None or not isinstance(text, str):
            continue
        places = [entry.get(key) for key in ("block", "line", "word")]
        if not all(isinstance(place, int) for place in places):
            alone += 1
            places = [1 << 30, alone, 1]
        block, line, number = places
        word = Word(quad, text, float(score) if isinstance(score, int | float) else None)
        lines.setdefault((block, line), []).append((number, word))  # type: ignore[arg-type]
    blocks: dict[int, list[Line]] = {}
    for block, line in sorted(lines):
        words = sorted(lines[block, line], key=lambda pair: pair[0])
        blocks.setdefault(block, []).append(Line(tuple(word for _, word in words)))
    return tuple(Block(tuple(found)) for found in blocks.values())
