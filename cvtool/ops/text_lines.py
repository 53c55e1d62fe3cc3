"""Lines of text from the letters of a block: which way they run, which letters follow each other, and the box around them.

Zhang 2016 (arXiv:1604.04018), sections 3.2 and 3.3. The direction of a block is that of the straight line that crosses most letters; letters follow
each other along it where their heights agree. What is no line is told by the middles of its characters: they are sure, and lie in a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cvtool.ops import quads

HEIGHTS = 1.5  # of two neighbours the larger is less than this times as high as the smaller
TURN = math.pi / 12  # by which the way between neighbours may differ from the block's direction
GAP = 2.0  # heights, between the middles of neighbours beside half their widths: more than a blank
SURE = 0.6  # mean probability of the characters' middles
BEND, SPREAD = math.pi / 32, math.pi / 16  # mean and deviation of the ways from middle to middle, against the line's
STEPS = 60  # directions that are tried


@dataclass(frozen=True)
class Letters:
    """N parts of a picture that may be letters. points: the pixels of each (P 2: x, y of their middles)."""

    points: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.points)

    @property
    def middles(self) -> np.ndarray:
        """N 2: the middles of their upright boxes."""
        return np.array([(p.min(0) + p.max(0)) / 2 for p in self.points]).reshape(-1, 2)

    def extents(self, angle: float) -> np.ndarray:
        """N 4: from and to along the direction `angle`, from and to across it; a pixel is one wide."""
        along, across = axes(angle)
        found = [((u := p @ along).min() - 0.5, u.max() + 0.5, (v := p @ across).min() - 0.5, v.max() + 0.5) for p in self.points]
        return np.array(found).reshape(-1, 4)


def axes(angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors along the direction and across it (downwards for level text); positive angles fall to the right."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([c, s]), np.array([-s, c])


def direction(letters: Letters) -> float:
    """Radians in (-pi/2, pi/2]: of the straight line, through the middle of a letter, that crosses most of them.

    A letter whose middle lies d off the line and that reaches r to either side of it counts 1 - d / r, not 1 or 0: so that of the many lines that
    cross all letters of a short word the one through their middles wins.
    """
    if len(letters) < 2:
        return 0.0
    middles = letters.middles
    best, found = -1.0, 0.0
    for angle in np.linspace(-math.pi / 2, math.pi / 2, STEPS, endpoint=False)[::-1]:
        reach = letters.extents(float(angle))
        half, offset = (reach[:, 3] - reach[:, 2]) / 2, middles @ axes(float(angle))[1]
        votes = np.maximum(0, 1 - np.abs(offset[:, None] - offset) / half).sum(1)
        if votes.max() > best + 1e-9:
            best, found = float(votes.max()), float(angle)
    return found


def tightened(points: np.ndarray, angle: float) -> float:
    """The direction, within TURN of `angle`, of the side of the points' convex hull along which they are least high: mostly the foot of the line,
    which tall letters at one of its ends do not bend as they bend the row of middles."""
    corners = quads.hull(points)
    ways = np.roll(corners, -1, 0) - corners
    slants = np.arctan2(ways[:, 1], ways[:, 0])
    turns = (slants - angle + math.pi / 2) % math.pi - math.pi / 2
    turns = turns[(np.abs(turns) <= TURN) & (np.linalg.norm(ways, axis=1) > 0)]
    heights = [np.ptp(corners @ axes(angle + float(turn))[1]) for turn in (*turns, 0.0)]
    return angle + float((*turns, 0.0)[int(np.argmin(heights))])


def groups(letters: Letters, angle: float) -> list[np.ndarray]:
    """Index arrays, in the order of reading: the letters that follow each other along `angle`, each set of them a line. Most letters first."""
    count = len(letters)
    if not count:
        return []
    reach, middles = letters.extents(angle), letters.middles
    along, across = axes(angle)
    height, width = reach[:, 3] - reach[:, 2], reach[:, 1] - reach[:, 0]
    u, v = middles @ along, middles @ across
    du, dv = np.abs(u[:, None] - u), np.abs(v[:, None] - v)
    larger, smaller = np.maximum(height[:, None], height), np.minimum(height[:, None], height)
    free = du - (width[:, None] + width) / 2
    near = (larger < HEIGHTS * smaller) & (np.arctan2(dv, du) <= TURN) & (free <= (GAP - 1) * larger)
    leader = np.arange(count)
    for _ in range(count):  # each takes the least number among its neighbours', until none changes
        lowest = np.where(near, leader, count).min(1)
        lowest = np.minimum(lowest, leader)
        if np.array_equal(lowest, leader):
            break
        leader = lowest
    found = [np.flatnonzero(leader == first) for first in np.unique(leader)]
    return sorted((members[np.argsort(u[members], kind="stable")] for members in found), key=lambda members: -len(members))


def box(letters: Letters, members: np.ndarray, angle: float, block: np.ndarray | None = None) -> np.ndarray:
    """4 2: the rectangle around the letters of a line of about the direction `angle`, widened along it as far as `block` (P 2 pixels) goes within."""
    angle = tightened(np.concatenate([letters.points[i] for i in members]), angle)
    along, across = axes(angle)
    reach = letters.extents(angle)[members]
    u0, u1, v0, v1 = reach[:, 0].min(), reach[:, 1].max(), reach[:, 2].min(), reach[:, 3].max()
    if block is not None and len(block):
        u, v = block @ along, block @ across
        inside = u[(v > v0) & (v < v1)]
        if len(inside):
            u0, u1 = min(u0, inside.min() - 0.5), max(u1, inside.max() + 0.5)
    corners = np.array([a * along + b * across for a, b in ((u0, v0), (u1, v0), (u1, v1), (u0, v1))])
    return quads.level(quads.clockwise(corners[None]))[0]


def in_a_row(points: np.ndarray, sure: np.ndarray, quad: np.ndarray) -> bool:
    """Whether characters with these middles (N 2, with probabilities N) make a line of text of the box `quad`: there are some, they are likely, and
    from three on they follow its direction."""
    if not len(points) or sure.mean() < SURE:
        return False
    if len(points) < 3:
        return True
    wide, high = quads.sides(quad[None])
    angle = float(quads.angles(quad[None])[0]) + (math.pi / 2 if high[0] > wide[0] else 0.0)
    along, _ = axes(angle)
    ordered = points[np.argsort(points @ along, kind="stable")]
    steps = np.diff(ordered, axis=0)
    slant = np.arctan2(steps[:, 1], steps[:, 0]) - angle
    slant = (slant + math.pi / 2) % math.pi - math.pi / 2
    return abs(slant.mean()) < BEND and float(slant.std()) < SPREAD


def peaks(probabilities: np.ndarray, quad: np.ndarray, least: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """The middles of characters in a quad: of each connected part of {probabilities >= least} (h w) that has its centre there, the centre (N 2,
    weighed by probability) and the highest probability (N)."""
    from scipy import ndimage

    height, width = probabilities.shape
    x0, y0, x1, y1 = quads.bounds(quad)
    left, top = max(0, int(x0)), max(0, int(y0))
    part = probabilities[top : max(top, min(height, math.ceil(y1))), left : max(left, min(width, math.ceil(x1)))]
    labels, count = ndimage.label(part >= least)
    if not count:
        return np.zeros((0, 2)), np.zeros(0)
    index = np.arange(1, count + 1)
    centres = np.array(ndimage.center_of_mass(part, labels, index))[:, ::-1] + 0.5 + [left, top]
    sure = np.asarray(ndimage.maximum(part, labels, index))
    corners = quads.clockwise(quad[None])[0]
    within = np.ones(count, bool)
    for k in range(4):
        way, offset = corners[(k + 1) % 4] - corners[k], centres - corners[k]
        within &= way[0] * offset[:, 1] - way[1] * offset[:, 0] >= 0
    return centres[within], sure[within]
