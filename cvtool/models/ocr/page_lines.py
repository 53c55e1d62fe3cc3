"""Page lines: finds the words of a printed page without a network, by the ink's own spacing (after O'Gorman 1993, doi:10.1109/34.244677).

Ink is what is darker than its surroundings; its connected pieces are letters, or parts of them. Pieces that follow each other at one height form
lines; marks (dots, commas, accents, hyphens) go to the line that they stand in or over; and where the gaps of a line fall into two kinds, narrow and
wide, the wide ones part words. Pictures, rules and specks are told from letters by their size and by how much of their box they fill. Nothing is
learned. It wants a page that is upright within a degree or two (`cvtool ocr` straightens first), with print on an even ground.

    cvtool ocr scan.png --detector page-lines
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cvtool.batch import Batch, Prepare
from cvtool.ops import ink
from cvtool.ops.ink import Pieces
from cvtool.results import Quads

VARIANTS: dict[str, dict] = {"base": {}, "tiny": {}}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
CATEGORIES = [{"id": 1, "name": "text"}]
RECIPE: dict[str, object] = {}
ROLE = "documents"

LEAST = 5  # pixels: lower letters cannot be read
SPECK = 0.12  # of the usual height: pieces smaller in both directions are dirt, unless they are all there is
TALLEST = 7.0  # usual heights: the largest letters beside the usual ones
LONG = 12.0  # times as long as wide: a rule, not a letter
SOLID = 0.35  # share of its box that a large piece must fill to be a picture, whose inside is no text
REACH = 1.3  # heights of the taller neighbour over which letters still follow each other
ALIKE = 3.2  # heights of neighbours in a line differ by less than this factor
BROKEN = 1.0  # sizes over which two lines at one height are one: a full stop, which is no letter, breaks the chain before a quotation mark
BESIDE = 0.45  # of the lower neighbour's height that both share
NARROW, WIDE = 0.12, 0.62  # usual heights: the mean gaps in words and between them, where a page has too few to tell
SPACED = 0.9  # usual heights: letters farther apart than this are words
EVEN = 1.6  # factor between the gaps of one word that is spaced wide
RAISED = 0.1, 0.35  # usual heights: an apostrophe or a quotation mark stands over the gaps beside it, so that the wider and the narrower count less
MARGIN = 0.12  # of its height by which a word's box is larger than its ink


@dataclass
class _Line:
    """members: indices of pieces, left to right. size: the usual height of its letters. top, bottom: of those letters (medians)."""

    members: np.ndarray
    size: float
    top: float
    bottom: float


class PageLines:
    """Words as upright boxes; what they lie in is found again by `cvtool ocr`, which puts them in order."""

    result = Quads
    prepare = Prepare(resize=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def predict(self, batch: Batch, *, max_det: int | None = None) -> list[Quads]:
        """Words, line by line from the top. max_det: at most so many, those with most ink first to stay."""
        found = []
        for image, place in zip(batch.images, batch.places, strict=True):
            pixels = (image[:, : place.height, : place.width] * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
            boxes = words(np.ascontiguousarray(pixels))
            if max_det is not None and len(boxes) > max_det:
                areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
                boxes = boxes[np.sort(np.argsort(-areas, kind="stable")[:max_det])]
            x0, y0, x1, y1 = torch.from_numpy(boxes.astype(np.float32)).T
            quads = torch.stack([torch.stack([x0, x1, x1, x0], 1), torch.stack([y0, y0, y1, y1], 1)], 2)
            found.append(Quads(quads.to(image.device), torch.ones(len(boxes), device=image.device)))
        return found


def words(pixels: np.ndarray) -> np.ndarray:
    """H W 3 uint8 -> N 4 float64 xyxy, the boxes of words, line by line from the top."""
    gray = ink.luminance(pixels)
    mask = ink.ink(gray if ink.paper_is_light(gray) else 255 - gray)
    return words_of(ink.pieces(mask, least=2), pixels.shape[1], pixels.shape[0])


def words_of(pieces: Pieces, width: int, height: int) -> np.ndarray:
    """The pieces of a page of that size -> boxes of words, N 4."""
    size = usual_height(pieces)
    if size is None:
        return np.zeros((0, 4))
    pieces = _text_alone(pieces, size, width, height)
    letters = np.flatnonzero(pieces.heights >= 0.55 * size)
    lines = _joined(_chained(pieces, letters), pieces)
    lines = _with_marks(lines, pieces, size)
    kinds = _kinds(np.concatenate([_gaps(line, pieces)[1] for line in lines]), 1.2) if lines else (NARROW, WIDE)
    found: list[np.ndarray] = []
    for line in sorted(lines, key=lambda one: (one.bottom, pieces.boxes[one.members[0], 0])):
        found += _parted(line, pieces, kinds)
    boxes = np.array(found).reshape(-1, 4)
    return np.clip(boxes, 0, [width, height, width, height])


def usual_height(pieces: Pieces) -> float | None:
    """The height that most of the ink's pieces have, which is that of small letters without ascenders; None where there is nothing like letters."""
    w, h = pieces.widths, pieces.heights
    fill = pieces.areas / (w * h)
    like = (h >= LEAST) & (w <= 4 * h) & (h <= 10 * w) & (fill > 0.1) & (fill < 0.97) & (pieces.areas >= 10)
    if like.sum() < 2:
        like = h >= LEAST
    if not like.any():
        return None
    logs = np.log(h[like])
    bins = np.arange(logs.min() - 0.1, logs.max() + 0.2, 0.03)
    counts, edges = np.histogram(logs, bins, weights=h[like].astype(float))
    smooth = np.convolve(counts, np.exp(-0.5 * (np.arange(-6, 7) / 2.5) ** 2), "same")
    best = int(np.argmax(smooth))
    near = np.abs(logs - (edges[best] + edges[best + 1]) / 2) < 0.12
    return float(np.median(h[like][near])) if near.any() else float(np.exp(edges[best]))


def _text_alone(pieces: Pieces, size: float, width: int, height: int) -> Pieces:
    """Without specks, rules, frames and pictures, and what lies in pictures."""
    w, h = pieces.widths, pieces.heights
    fill = pieces.areas / (w * h)
    large = (h > TALLEST * size) | (w > 6 * TALLEST * size) | ((w > 4 * size) & (h > 4 * size) & (fill > 0.8))
    rule = (np.maximum(w, h) > LONG * np.minimum(w, h)) & (np.maximum(w, h) > 2.5 * size)
    speck = np.maximum(w, h) < max(SPECK * size, 1.5)
    keep = ~(large | rule | speck)
    pictures = pieces.boxes[large & (fill > SOLID) & (np.minimum(w, h) > 4 * size)]
    middle = (pieces.boxes[:, :2] + pieces.boxes[:, 2:]) / 2
    for x0, y0, x1, y1 in pictures.tolist():
        keep &= ~((middle[:, 0] > x0) & (middle[:, 0] < x1) & (middle[:, 1] > y0) & (middle[:, 1] < y1))
    touching = ((pieces.boxes[:, 0] <= 0) | (pieces.boxes[:, 1] <= 0) | (pieces.boxes[:, 2] >= width) | (pieces.boxes[:, 3] >= height)) & (
        np.maximum(w, h) > 2.5 * size
    )  # the black rim of a scan
    return pieces[keep & ~touching]


def _chained(pieces: Pieces, letters: np.ndarray) -> list[np.ndarray]:
    """Groups of indices: each letter follows the nearest one to its left at its height."""
    boxes = pieces.boxes[letters].astype(float)
    order = np.argsort(boxes[:, 0], kind="stable")
    letters, boxes = letters[order], boxes[order]
    x0, y0, x1, y1 = boxes.T
    tall = y1 - y0
    parent = np.arange(len(letters))
    reach = REACH * tall.max(initial=0)
    starts = np.searchsorted(x0, x0, "right")
    ends = np.searchsorted(x0, x1 + reach, "right")
    for i in range(len(letters)):
        near = slice(min(starts[i], i + 1), ends[i])
        shared = np.minimum(y1[near], y1[i]) - np.maximum(y0[near], y0[i])
        taller, lower = np.maximum(tall[near], tall[i]), np.minimum(tall[near], tall[i])
        gap = x0[near] - x1[i]
        fits = (shared > BESIDE * lower) & (taller < ALIKE * lower) & (gap < REACH * taller) & (np.arange(near.start, near.stop) > i)
        fits &= x1[near] > x1[i] - 0.3 * tall[i]
        if fits.any():
            j = near.start + int(np.argmin(np.where(fits, np.maximum(gap, 0) + 0.2 * (taller - shared), np.inf)))
            a, b = _root(parent, i), _root(parent, j)
            parent[max(a, b)] = min(a, b)
    roots = np.array([_root(parent, i) for i in range(len(letters))], int)
    order = np.argsort(roots, kind="stable")
    return [letters[group] for group in np.split(order, np.flatnonzero(np.diff(roots[order])) + 1)] if len(letters) else []


def _root(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


def _line(members: np.ndarray, pieces: Pieces) -> _Line:
    boxes = pieces.boxes[members]
    heights = (boxes[:, 3] - boxes[:, 1]).astype(float)
    size = float(np.percentile(heights, 35, method="nearest"))  # that of a piece, so that one at least is near it
    near = np.abs(heights - size) <= 0.2 * size + 2
    return _Line(members[np.argsort(boxes[:, 0], kind="stable")], size, float(np.median(boxes[near, 1])), float(np.median(boxes[near, 3])))


def _joined(groups: list[np.ndarray], pieces: Pieces) -> list[_Line]:
    """Lines of groups; those that stand within each other's width at one height, or near it (a broken chain), are one."""
    lines = [_line(group, pieces) for group in groups]
    lines.sort(key=lambda line: -len(line.members))
    kept: list[_Line] = []
    spans: list[tuple[float, float, float, float]] = []
    for line in lines:
        boxes = pieces.boxes[line.members]
        x0, x1 = float(boxes[:, 0].min()), float(boxes[:, 2].max())
        home = -1
        for n, (left, right, top, bottom) in enumerate(spans):
            shared = min(bottom, line.bottom) - max(top, line.top)
            one, other = bottom - top, line.bottom - line.top
            if (
                shared > 0.5 * min(one, other)
                and max(one, other) < ALIKE * min(one, other)
                and x0 < right + BROKEN * one
                and x1 > left - BROKEN * one
            ):
                home = n
                break
        if home < 0:
            kept.append(line)
            spans.append((x0, x1, line.top, line.bottom))
        else:
            kept[home] = _line(np.concatenate([kept[home].members, line.members]), pieces)
            left, right, _, _ = spans[home]
            spans[home] = (min(left, x0), max(right, x1), kept[home].top, kept[home].bottom)
    return kept


def _with_marks(lines: list[_Line], pieces: Pieces, size: float) -> list[_Line]:
    """Each line with the marks that belong to it; marks far from every line are dirt, lines without a letter's height are, too."""
    if not lines:
        return []
    weak = [len(line.members) <= 2 and line.size < 0.8 * size for line in lines]  # quotation marks are as high as letters
    strays = [line for line, stray in zip(lines, weak, strict=True) if stray]
    lines = [line for line, stray in zip(lines, weak, strict=True) if not stray]
    if not lines:
        return strays
    marks = np.setdiff1d(np.arange(len(pieces)), np.concatenate([line.members for line in lines]))
    gained: list[list[int]] = [[] for _ in lines]
    left = np.array([pieces.boxes[line.members, 0].min() for line in lines], float)
    right = np.array([pieces.boxes[line.members, 2].max() for line in lines], float)
    top, bottom = np.array([line.top for line in lines]), np.array([line.bottom for line in lines])
    tall = bottom - top
    for mark in marks.tolist():
        x0, y0, x1, y1 = pieces.boxes[mark].astype(float)
        aside = np.maximum(np.maximum(left - x1, x0 - right), 0)
        above = np.maximum(top - y1, 0)  # of an accent over the letters
        below = np.maximum(y0 - bottom, 0)
        fits = (aside < 0.9 * tall) & (above < 0.75 * tall) & (below < 0.35 * tall) & (y1 - y0 < 1.6 * tall + 2)
        if fits.any():
            gained[int(np.argmin(np.where(fits, aside + 0.6 * above + 1.5 * below, np.inf)))].append(mark)
    out = []
    for line, more in zip(lines, gained, strict=True):
        members = np.concatenate([line.members, np.array(more, int)])
        members = members[np.argsort(pieces.boxes[members, 0], kind="stable")]
        if len(line.members) > 1 or line.size > 0.8 * size:
            out.append(_Line(members, line.size, line.top, line.bottom))
    taken = {mark for more in gained for mark in more}
    return out + [line for line in strays if len(line.members) > 1 and not taken & set(line.members.tolist())]


def _gaps(line: _Line, pieces: Pieces) -> tuple[np.ndarray, np.ndarray]:
    """Where each gap of a line lies (the index of the member behind it) and its width in sizes of the line; overlaps are negative."""
    boxes = pieces.boxes[line.members].astype(float)
    ends = np.maximum.accumulate(boxes[:, 2])
    gaps = (boxes[1:, 0] - ends[:-1]) / max(line.size, 1.0)
    wide, high = (boxes[:, k + 2] - boxes[:, k] for k in (0, 1))
    hooked = (high > 2 * wide) & (boxes[:, 1] > line.top - 0.25 * line.size) & (boxes[:, 3] > line.bottom + 0.15 * line.size)
    gaps[hooked[1:]] += 0.6 * wide[1:][hooked[1:]] / max(line.size, 1.0)  # the hook of a j reaches under the gap before it
    for i in np.flatnonzero(boxes[:, 3] < (line.top + line.bottom) / 2).tolist():
        under = np.minimum(boxes[:, 2], boxes[i, 2]) - np.maximum(boxes[:, 0], boxes[i, 0])
        if (under > 0.5 * wide[i]).sum() > 1:  # the dot of an i, an accent
            continue
        beside = sorted((g for g in (i - 1, i) if 0 <= g < len(gaps)), key=lambda g: -gaps[g])
        for g, less in zip(beside[::-1], RAISED[::-1], strict=False):
            gaps[g] -= less
    return np.arange(1, len(boxes)), gaps


def _kinds(gaps: np.ndarray, most: float) -> tuple[float, float]:
    """The means of two kinds of gaps, those in words and those between, parted so that they differ most (Otsu 1979,
    doi:10.1109/TSMC.1979.4310076). most: larger ones count as this."""
    gaps = np.sort(np.clip(gaps[gaps > -0.2], 0, most))
    if len(gaps) < 4:
        return NARROW, WIDE
    count = np.arange(1, len(gaps))
    sums = np.cumsum(gaps)[:-1]
    low, high = sums / count, (gaps.sum() - sums) / (len(gaps) - count)
    at = int(np.argmax(count * (len(gaps) - count) * (high - low) ** 2))
    narrow, wide = float(low[at]), float(high[at])
    return (narrow, wide) if wide > 0.35 and wide > 1.8 * narrow else (min(float(np.median(gaps)), 0.3), max(WIDE, 2.5 * float(np.median(gaps))))


def _cut(gaps: np.ndarray, kinds: tuple[float, float]) -> float:
    """The width over which a line's gaps part words: the middle of the widest step between the gaps of the line, those of justified lines being
    alike, and near to where the page's two kinds part. A line that is spaced wide has kinds of its own."""
    narrow, wide = kinds
    usual = narrow + 0.55 * (wide - narrow)
    if len(gaps) >= 2 and gaps.min() > narrow + 0.3 * (wide - narrow) and np.median(gaps) < usual and gaps.max() < EVEN * gaps.min():
        return float(gaps.max()) + 0.01  # words of one letter each are no line of text
    if len(gaps) >= 4 and (gaps < usual).mean() < 0.45 and np.median(gaps) < SPACED:
        low, high = _kinds(gaps, 3.0)
        return (low + high) / 2 if high > 1.6 * low else max(2.0 * low, float(gaps.max()) + 0.01)
    steps = np.sort(np.concatenate([np.clip(gaps, narrow, wide), [narrow, wide]]))
    middles, sizes = (steps[1:] + steps[:-1]) / 2, np.diff(steps)
    nearness = np.exp(-0.5 * ((middles - usual) / (0.2 * (wide - narrow))) ** 2)
    best = int(np.argmax(sizes * nearness))
    return float(np.clip(middles[best], narrow + 0.3 * (wide - narrow), narrow + 0.8 * (wide - narrow)))


def _parted(line: _Line, pieces: Pieces, kinds: tuple[float, float]) -> list[np.ndarray]:
    """The boxes of a line's words: around their ink, at least as high as a small letter, with a margin."""
    places, gaps = _gaps(line, pieces)
    cut = _cut(gaps, kinds)
    found = []
    for members in np.split(line.members, places[gaps > cut]):
        boxes = pieces.boxes[members]
        top, bottom = min(boxes[:, 1].min(), line.top), max(boxes[:, 3].max(), line.bottom)
        margin = MARGIN * (bottom - top)
        found.append(np.array([boxes[:, 0].min() - margin, top - margin, boxes[:, 2].max() + margin, bottom + margin], float))
    return found


def build(*, classes: int = 0) -> PageLines:
    return PageLines()
