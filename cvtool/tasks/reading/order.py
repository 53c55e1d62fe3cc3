"""Regions of text in the order in which people read them: lines, columns, blocks.

Words that follow each other at one height are pieces of lines. Where a strip without words parts two sides of wide lines, these are columns; whatever
crosses the strip is a heading over both if it is wide, and stands by itself if it is narrow (a caption, a box of its own). Columns are read one after
the other, from the left, each cut again in the same way. What is narrow on one side, such as the prices of a receipt, is no column but the end of its
lines. Lines become blocks where the distance to the next grows, the size of the letters changes, or a short last line or an indented first one shows
a new paragraph.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from cvtool.ops import quads as geometry

ALIKE = 2.6  # heights of neighbours in a line differ by less than this factor
SHARED = 0.45  # of the lower one's height that two words of a line share
REACH = 1.25  # heights of a line over which words still follow each other for certain
GUTTER = 0.7  # heights: the least width of the strip between two columns
WIDE = 7.0  # heights: the lines of a column are at least so wide (their median)
ROWS = 3  # lines side by side that make two columns
CROSSING = 0.3  # share of narrow lines across a strip over which it is none
APART = 1.5  # times the usual distance between lines at which a block ends
RESIZED = 1.45  # factor between the heights of lines of different blocks


@dataclass
class _Row:
    """A line or a piece of one. words: indices, left to right. box: x0 y0 x1 y1, in a frame in which lines are level. height: the usual one."""

    words: list[int]
    box: np.ndarray
    height: float

    @property
    def middle(self) -> float:
        return float(self.box[1] + self.box[3]) / 2


@dataclass
class _Words:
    """boxes: N 4, upright, in a frame in which lines are level. heights: N."""

    boxes: np.ndarray
    heights: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.heights = self.boxes[:, 3] - self.boxes[:, 1]

    def row(self, words: list[int]) -> _Row:
        words = sorted(words, key=lambda i: self.boxes[i, 0])
        boxes = self.boxes[words]
        box = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
        return _Row(words, box, float(np.percentile(self.heights[words], 80)))


def arranged(quads: np.ndarray) -> list[list[list[int]]]:
    """N 4 2 corners of words -> blocks of lines of indices, in reading order. Every index stands there once."""
    quads = np.asarray(quads, np.float64).reshape(-1, 4, 2)
    if not len(quads):
        return []
    return [[row.words for row in block] for block in _blocks(_level(quads))]


def _level(quads: np.ndarray) -> _Words:
    """Upright boxes of the words after the page is turned by the usual slant of its words, weighted by their lengths."""
    width, height = geometry.sides(quads)
    slant = geometry.angles(quads)
    long = width >= height
    if long.any() and (slant[long] != 0).any():
        weights = width[long]
        # slants are alike where their difference is small; the mean of vectors is not troubled by 359 and 1 degrees
        turn = float(np.arctan2((np.sin(slant[long]) * weights).sum(), (np.cos(slant[long]) * weights).sum()))
    else:
        turn = 0.0
    if turn:
        cosine, sine = np.cos(-turn), np.sin(-turn)
        quads = quads @ np.array([[cosine, -sine], [sine, cosine]]).T
    return _Words(geometry.bounds(quads))


def _blocks(words: _Words) -> list[list[_Row]]:
    found: list[list[_Row]] = []
    for column in _columns(_pieces(words), words):
        found += _paragraphs(_lines(column, words), words)
    return found


def _pieces(words: _Words) -> list[_Row]:
    """Words that follow each other at one height, closely."""
    return _merged([[i] for i in np.argsort(words.boxes[:, 0], kind="stable").tolist()], words, REACH)


def _lines(pieces: list[_Row], words: _Words) -> list[_Row]:
    """Pieces of one column, with those at one height joined however far apart they are; from the top."""
    rows = _merged([piece.words for piece in sorted(pieces, key=lambda piece: piece.box[0])], words, np.inf)
    return sorted(rows, key=lambda row: (row.middle, row.box[0]))


def _merged(groups: list[list[int]], words: _Words, reach: float) -> list[_Row]:
    """Groups, given from left to right, each put behind the open row that it follows best."""
    rows: list[list[int]] = []
    ends = np.zeros((len(groups), 4))  # of the last group of each row: x0 y0 x1 y1
    far = np.isinf(reach)
    for group in groups:
        boxes = words.boxes[group]
        box = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
        last = ends[: len(rows)]
        tall, own = last[:, 3] - last[:, 1], box[3] - box[1]
        shared = np.minimum(last[:, 3], box[3]) - np.maximum(last[:, 1], box[1])
        lower, taller = np.minimum(tall, own), np.maximum(tall, own)
        gap = box[0] - last[:, 2]
        fits = (shared > SHARED * lower) & (taller < ALIKE * np.maximum(lower, 1)) & (gap < reach * taller) & (gap > -0.6 * taller)
        if fits.any():
            best = int(np.argmin(np.where(fits, np.maximum(gap, 0) * (not far) - shared, np.inf)))
            rows[best] += group
            if not far or box[2] > ends[best, 2]:
                ends[best] = box
        else:
            ends[len(rows)] = box
            rows.append(list(group))
    return [words.row(row) for row in rows]


# --- columns -------------------------------------------------------------------------------------------------------------------------------------


def _columns(rows: list[_Row], words: _Words, depth: int = 0) -> list[list[_Row]]:
    """Pieces of lines -> groups of them, in order, none of which has columns."""
    strip = _gutter(rows) if depth < 12 else None
    if strip is None:
        return [rows]
    if (bands := _bands(rows)) is not None:
        return [group for band in bands for group in _columns(band, words, depth + 1)]
    left_edge, right_edge = strip
    middle = (left_edge + right_edge) / 2
    left = [row for row in rows if row.box[2] <= middle]
    right = [row for row in rows if row.box[0] >= middle]
    over = [row for row in rows if row.box[0] < middle < row.box[2]]
    over = _lines(over, words) if over else []
    span = max(row.box[2] for row in rows) - min(row.box[0] for row in rows)
    top = min(row.box[1] for row in left + right)
    bottom = max(row.box[3] for row in left + right)
    cuts = [row for row in over if row.box[2] - row.box[0] >= 0.55 * span or row.middle < top or row.middle > bottom]
    aside = [row for row in over if not any(row is cut for cut in cuts)]
    found: list[list[_Row]] = []
    levels = [-np.inf, *(row.middle for row in cuts), np.inf]
    for n, (upper, lower) in enumerate(pairwise(levels)):
        for side in (left, right, aside):
            part = [row for row in side if upper < row.middle <= lower]
            if part:
                found += _columns(part, words, depth + 1)
        if n < len(cuts):
            if found and n and _touching(cuts[n - 1], cuts[n], left + right):
                found[-1].append(cuts[n])
            else:
                found.append([cuts[n]])
    return found


def _touching(one: _Row, other: _Row, between: list[_Row]) -> bool:
    """Whether two wide lines follow each other with nothing between."""
    return not any(one.middle < row.middle <= other.middle for row in between)


def _bands(rows: list[_Row]) -> list[list[_Row]] | None:
    """A running head over all columns, or a foot under them, apart from the rest; None where there is neither."""
    order = sorted(rows, key=lambda row: row.box[1])
    usual = float(np.median([row.height for row in rows]))
    below = np.maximum.accumulate([row.box[3] for row in order])
    white = np.array([row.box[1] for row in order[1:]]) - below[:-1]
    cuts = (np.flatnonzero(white > 0.5 * usual) + 1).tolist()
    head = next((cut for cut in reversed(cuts) if _single(order[:cut])), 0)
    foot = next((cut for cut in cuts if cut > head and _single(order[cut:])), len(order))
    parts = [part for part in (order[:head], order[head:foot], order[foot:]) if part]
    return parts if len(parts) > 1 else None


def _single(rows: list[_Row]) -> bool:
    """Whether all of them stand at one height, or nearly."""
    middles = [row.middle for row in rows]
    return max(middles) - min(middles) < 1.2 * max(row.height for row in rows)


def _gutter(rows: list[_Row]) -> tuple[float, float] | None:
    """(x0, x1) of the strip that parts columns best; None where there is none."""
    if len(rows) < 2 * ROWS:
        return None
    boxes = np.array([row.box for row in rows])
    heights = np.array([row.height for row in rows])
    usual = float(np.median(heights))
    # strips lie between the right end of one piece and the left end of another
    edges = np.concatenate([boxes[:, 2], boxes[:, 0]])
    places = np.unique(np.round(edges / (0.25 * usual)).astype(int))[:-1] * 0.25 * usual + 0.125 * usual
    across = ((boxes[None, :, 0] < places[:, None]) & (places[:, None] < boxes[None, :, 2])).sum(1)
    best: tuple[float, float, float] | None = None
    for x, crossed in zip(places.tolist(), across.tolist(), strict=True):
        left, right = boxes[:, 2] <= x, boxes[:, 0] >= x
        count = min(int(left.sum()), int(right.sum()))
        if count < ROWS or crossed > CROSSING * (left.sum() + right.sum()):
            continue
        score = _parting(boxes, heights, left, right, usual)
        if score is None:
            continue
        worth = score[2] - 2.0 * crossed
        if worth > 0 and (best is None or worth > best[2]):
            best = (score[0], score[1], worth)
    return None if best is None else best[:2]


def _parting(boxes: np.ndarray, heights: np.ndarray, left: np.ndarray, right: np.ndarray, usual: float) -> tuple[float, float, float] | None:
    """Edges of the strip between two sides and the number of lines that it parts; None where the sides are not columns of text."""
    one, other = boxes[left], boxes[right]
    beside = (np.minimum(one[:, None, 3], other[None, :, 3]) - np.maximum(one[:, None, 1], other[None, :, 1])) > 0.3 * usual  # L R
    rows_left, rows_right = beside.any(1), beside.any(0)
    if min(rows_left.sum(), rows_right.sum()) < ROWS:
        return None
    # what stands side by side: the nearest on each side of each row decides how wide the strip is there
    gaps = np.where(beside, other[None, :, 0] - one[:, None, 2], np.inf).min(1)[rows_left]
    if np.percentile(gaps, 20) < GUTTER * usual:
        return None
    for side, used in ((one, rows_left), (other, rows_right)):
        if _widths(side[used], usual) < WIDE * usual:
            return None
    x0 = float(np.percentile(one[rows_left, 2], 90))
    x1 = float(np.percentile(other[rows_right, 0], 10))
    if x1 <= x0:
        x0, x1 = float(one[:, 2].max()), float(other[:, 0].min())
    return x0, x1, float(min(rows_left.sum(), rows_right.sum()))


def _widths(boxes: np.ndarray, usual: float) -> float:
    """The median width of a side's lines, pieces at one height taken together."""
    order = np.argsort((boxes[:, 1] + boxes[:, 3]) / 2)
    spans: list[list[float]] = []
    for x0, y0, x1, y1 in boxes[order].tolist():
        middle = (y0 + y1) / 2
        if spans and middle - spans[-1][2] < 0.5 * usual:
            spans[-1][0], spans[-1][1] = min(spans[-1][0], x0), max(spans[-1][1], x1)
        else:
            spans.append([x0, x1, middle])
    return float(np.median([right - left for left, right, _ in spans]))


# --- blocks --------------------------------------------------------------------------------------------------------------------------------------


def _paragraphs(lines: list[_Row], words: _Words) -> list[list[_Row]]:
    """Lines of one column, from the top -> blocks of them."""
    if not lines:
        return []
    steps = [below.middle - above.middle for above, below in pairwise(lines)]
    close = [step for step, above in zip(steps, lines, strict=False) if step < 3.5 * above.height]
    usual = float(np.median(close)) if close else np.inf
    blocks = [[lines[0]]]
    for n, (step, above, below) in enumerate(zip(steps, lines, lines[1:], strict=False)):
        sizes = sorted((above.height, below.height))
        ends = step > APART * usual or step > 2.6 * sizes[1] or sizes[1] > RESIZED * sizes[0]
        if ends or _paragraph(lines, n, words):
            blocks.append([below])
        else:
            blocks[-1].append(below)
    return blocks


def _paragraph(lines: list[_Row], n: int, words: _Words) -> bool:
    """Whether a paragraph ends with line n: the next one is indented and the one after it is not, or its first word would have had room on line n."""
    above, below = lines[n], lines[n + 1]
    height = above.height
    after = lines[n + 2] if n + 2 < len(lines) else None
    indent = below.box[0] - above.box[0]
    if after is not None and 0.7 * height < indent < 6 * height and abs(after.box[0] - above.box[0]) < 0.6 * height:
        return True
    right = min(below.box[2], max(row.box[2] for row in (lines[max(n - 1, 0)], below, after or below)))
    first = words.boxes[below.words[0]]
    room = right - above.box[2]
    return room > first[2] - first[0] + 1.6 * height and right - below.box[0] > 8 * height and abs(indent) < 0.6 * height
