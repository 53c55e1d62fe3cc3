"""Characters as shapes: a line of print cut into its characters, and numbers that describe each. NumPy and SciPy, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image
from scipy import ndimage

from cvtool.ops import ink

SIDE = 24  # pixels of the square into which each character is fitted
POOLED = 12  # cells a side of its darkness
CELLS, ANGLES = 6, 8  # cells a side of its edges, and directions of these
PLACE = 2.5  # weight of where a character stands in its line, beside its shape
WIDTH = 0.4  # and of its width
OVERLAP = 0.5  # of the narrower piece's width: pieces above each other are one character
SPECK = 0.06  # of the line's height: smaller pieces are dirt
JOINED = 1.15  # times as wide as the line's letters are high: may be several that touch
GAP = 0.15  # of the height of capitals: what a gap must be wider than the fonts have it, for the next word to begin
INK = 0.35  # darkness from which on pixels touch


@dataclass(frozen=True)
class Glyph:
    """dark: h w float32 in [0, 1], the character's own ink. left, top: of its box in the line."""

    dark: np.ndarray
    left: int
    top: int

    @property
    def right(self) -> int:
        return self.left + self.dark.shape[1]

    @property
    def bottom(self) -> int:
        return self.top + self.dark.shape[0]


def line_of(pixels: np.ndarray) -> list[Glyph]:
    """H W 3 uint8, one line of print -> its characters from left to right: connected pieces, those above each other as one."""
    gray = ink.luminance(pixels)
    if not ink.paper_is_light(gray):
        gray = 255 - gray
    mask = ink.ink(gray, window=max(31, gray.shape[0] | 1))
    dark = darkness(gray, mask)
    labels, count = ndimage.label(mask & (dark > INK), structure=np.ones((3, 3), bool))
    if not count:
        return []
    boxes = [(s[1].start, s[0].start, s[1].stop, s[0].stop, label) for label, s in enumerate(ndimage.find_objects(labels), 1) if s is not None]
    least = SPECK * gray.shape[0]
    boxes = sorted(box for box in boxes if max(box[2] - box[0], box[3] - box[1]) >= least)
    groups: list[list[tuple[int, int, int, int, int]]] = []
    for box in boxes:
        if groups:
            x0, x1 = min(b[0] for b in groups[-1]), max(b[2] for b in groups[-1])
            if min(x1, box[2]) - max(x0, box[0]) > OVERLAP * min(x1 - x0, box[2] - box[0]):
                groups[-1].append(box)
                continue
        groups.append([box])
    found = []
    near = ndimage.grey_dilation(labels, size=(3, 3))  # the soft edge goes with its piece
    for group in groups:
        x0, y0, x1, y1 = min(b[0] for b in group), min(b[1] for b in group), max(b[2] for b in group), max(b[3] for b in group)
        x0, y0, x1, y1 = max(0, x0 - 1), max(0, y0 - 1), min(gray.shape[1], x1 + 1), min(gray.shape[0], y1 + 1)
        own = np.isin(near[y0:y1, x0:x1], [b[4] for b in group])
        found.append(cropped(Glyph(dark[y0:y1, x0:x1] * own, x0, y0)))
    return found


def darkness(gray: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """H W uint8 -> H W float32: 0 the paper's usual gray, 1 the ink's."""
    paper, print_ = float(np.median(gray[~mask])) if (~mask).any() else 255.0, float(np.percentile(gray[mask], 25)) if mask.any() else 0.0
    return np.clip((paper - gray.astype(np.float32)) / max(paper - print_, 1.0), 0, 1)


def cropped(glyph: Glyph) -> Glyph:
    """Without empty rows and columns around the ink."""
    mask = glyph.dark > INK
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return glyph
    y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return Glyph(glyph.dark[y0:y1, x0:x1], glyph.left + int(x0), glyph.top + int(y0))


def cut(glyph: Glyph, at: tuple[int, ...]) -> list[Glyph]:
    """The parts of a glyph between vertical cuts, columns of its own."""
    edges = (0, *at, glyph.dark.shape[1])
    return [cropped(Glyph(glyph.dark[:, a:b], glyph.left + a, glyph.top)) for a, b in pairwise(edges)]


def cuts(glyph: Glyph, height: float) -> list[int]:
    """Columns at which a piece that is wide for letters of this height may be several that touch: where least ink is, best first."""
    width = glyph.dark.shape[1]
    if width < JOINED * height:
        return []
    profile = ndimage.uniform_filter1d(glyph.dark.sum(0), 3)
    margin = max(2, round(0.15 * height))
    inside = np.arange(margin, width - margin)
    lowest = [int(x) for x in inside if profile[x] <= profile[max(0, x - 2) : x + 3].min() and profile[x] < 0.5 * profile.max()]
    return sorted(lowest, key=lambda x: float(profile[x]))


def features(glyphs: list[Glyph], baseline: float, height: float) -> np.ndarray:
    """N glyphs of a line whose baseline and height of capitals are known -> N D float32: darkness, directions of edges, place and width."""
    if not glyphs:
        return np.zeros((0, POOLED**2 + ANGLES * CELLS**2 + 3), np.float32)
    shapes = np.stack([fitted(glyph.dark) for glyph in glyphs])  # N SIDE SIDE
    soft = ndimage.gaussian_filter(shapes, (0, 1.0, 1.0))
    cells = soft.reshape(len(glyphs), POOLED, SIDE // POOLED, POOLED, SIDE // POOLED).mean((2, 4)).reshape(len(glyphs), -1)
    dy, dx = np.gradient(soft, axis=(1, 2))
    strength, angle = np.hypot(dx, dy), np.arctan2(dy, dx) % (2 * np.pi)
    share = angle * ANGLES / (2 * np.pi)
    low = np.floor(share).astype(int) % ANGLES
    part = share - np.floor(share)
    edges = np.zeros((len(glyphs), ANGLES, CELLS, CELLS), np.float32)
    for k in range(ANGLES):  # each edge counts for the two directions next to its own
        weight = strength * (np.where(low == k, 1 - part, 0) + np.where((low + 1) % ANGLES == k, part, 0))
        edges[:, k] = weight.reshape(len(glyphs), CELLS, SIDE // CELLS, CELLS, SIDE // CELLS).sum((2, 4))
    place = np.array([[(g.top - baseline) / height, (g.bottom - baseline) / height, WIDTH * g.dark.shape[1] / height] for g in glyphs])
    parts = [unit(cells), unit(np.sqrt(edges.reshape(len(glyphs), -1))), PLACE * place.astype(np.float32)]
    return np.concatenate(parts, 1).astype(np.float32)


def fitted(dark: np.ndarray) -> np.ndarray:
    """h w -> SIDE SIDE: as large as it goes in, in the middle, its proportions kept."""
    h, w = dark.shape
    scale = (SIDE - 2) / max(h, w)
    size = max(1, round(w * scale)), max(1, round(h * scale))
    small = np.asarray(Image.fromarray((dark * 255).astype(np.uint8)).resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR))
    out = np.zeros((SIDE, SIDE), np.float32)
    y, x = (SIDE - size[1]) // 2, (SIDE - size[0]) // 2
    out[y : y + size[1], x : x + size[0]] = small / 255.0
    return out


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def sizes(glyphs: list[Glyph]) -> list[tuple[float, float]]:
    """What a line's baseline and height of capitals may be, as (baseline, height): by its pieces' boxes alone that is not certain, since a line may
    be of small letters only, or have many that reach below.
    """
    tops, bottoms = (np.array([getattr(g, side) for g in glyphs], float) for side in ("top", "bottom"))
    tallest = (bottoms - tops).max()
    letters = (bottoms - tops) >= 0.45 * tallest
    floors = sorted({float(np.median(bottoms[letters])), float(np.percentile(bottoms[letters], 20)), float(np.percentile(bottoms[letters], 80))})
    found = []
    for floor in floors:
        above = max(floor - tops[letters].min(), 0.4 * tallest)
        found += [(floor, above), (floor, above / 0.74), (floor, above / 1.05)]  # capitals; small letters without ascenders; ascenders above capitals
    return found


def parted(glyphs: list[Glyph], height: float, left: np.ndarray, right: np.ndarray) -> list[int]:
    """Numbers of the glyphs in front of which a word begins, but for the first. left, right: N, what each has on either side as fonts have it, in
    heights of capitals: a 1 among digits has more than an l among letters. Letters that are spaced out are only compared with each other.
    """
    if len(glyphs) < 2:
        return []
    gaps = np.array([(b.left - a.right) / height for a, b in pairwise(glyphs)]) - right[:-1] - left[1:]
    spaced = max(0.0, float(np.median(gaps)))
    return [i + 1 for i, gap in enumerate(gaps) if gap - spaced > GAP + 0.5 * spaced]
