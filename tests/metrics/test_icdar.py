"""Polygons against exact figures and Shapely's, and the competition's rules against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from cvtool.metrics import _polygons, icdar
from cvtool.metrics.icdar import Regions

SQUARE = np.array([[0, 0], [4, 0], [4, 4], [0, 4.0]])
NOTCH = np.array([[0, 0], [4, 0], [4, 4], [2, 1], [0, 4.0]])  # concave


def quad(draw, spread=40.0):
    """A star-shaped quadrilateral, convex or not."""
    angles = np.sort(draw.uniform(0, 2 * np.pi, 4))
    corners = draw.uniform(0, spread, 2) + np.stack([np.cos(angles), np.sin(angles)], 1) * draw.uniform(3, 14, (4, 1))
    return corners if draw.random() < 0.5 else corners[::-1]


def raster(one, other, scale=40):
    """The area that both share, by counting points: of two polygons in the square from 0 to 4."""
    grid = (np.arange(4 * scale) + 0.5) / scale
    y, x = np.meshgrid(grid, grid, indexing="ij")

    def inside(corners):
        hit = np.zeros(x.shape, bool)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):
                hit ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        return hit

    return (inside(one) & inside(other)).sum() / scale**2


def test_shared_areas_are_exact():
    shifted = SQUARE + 1
    assert _polygons.shared([SQUARE], [SQUARE, shifted, shifted[::-1], SQUARE + 4, SQUARE + 9]).tolist() == [[16, 9, 9, 0, 0]]
    assert _polygons.shared([NOTCH], [NOTCH])[0, 0] == pytest.approx(abs(_polygons.area(NOTCH)))
    assert _polygons.shared([NOTCH], [np.array([[1, 1], [3, 1], [3, 3], [1, 3.0]])])[0, 0] == pytest.approx(raster(NOTCH, SQUARE / 2 + 1), abs=0.02)


def test_shared_areas_are_shapelys():
    shapely = pytest.importorskip("shapely")
    draw = np.random.default_rng(0)
    ones, others = ([quad(draw) for _ in range(25)] for _ in range(2))
    mine = _polygons.shared(ones, [*others, *ones])
    shapes = [[shapely.Polygon(one) for one in side] for side in (ones, [*others, *ones])]
    theirs = [[shapely.intersection(one, other).area if one.is_valid and other.is_valid else np.nan for other in shapes[1]] for one in shapes[0]]
    there = ~np.isnan(theirs)
    assert there.mean() > 0.7
    np.testing.assert_allclose(mine[there], np.array(theirs)[there], atol=1e-9)


def test_crossing_sides_are_put_in_order():
    bow = SQUARE[[0, 2, 1, 3]]
    assert abs(_polygons.area(_polygons.simple(bow))) == 16
    assert _polygons.simple(SQUARE) is SQUARE


def plain(true, found, iou):
    """The competition's script, loop by loop, by Shapely-free overlaps of one pair at a time."""
    area = [abs(_polygons.area(one)) for one in true.corners], [abs(_polygons.area(one)) for one in found.corners]
    common = [[_polygons.shared([one], [other])[0, 0] for other in found.corners] for one in true.corners]
    out = {j for j in range(len(found.corners)) if any(true.spared[i] and common[i][j] / area[1][j] > 0.5 for i in range(len(true.corners)))}
    taken, right, pairs = set(), 0, 0
    for i in range(len(true.corners)):
        for j in range(len(found.corners)):
            if true.spared[i] or j in out or j in taken:
                continue
            if common[i][j] / (area[0][i] + area[1][j] - common[i][j]) > iou:
                taken.add(j)
                pairs += 1
                right += true.texts[i].lower() == found.texts[j].lower()
                break
    return [true.spared.count(False), len(found.corners) - len(out), pairs, right]


def test_counts_are_those_of_a_plain_loop():
    draw = np.random.default_rng(1)
    words = ["One", "two", "THREE"]
    for _ in range(40):
        true = [quad(draw, 15) for _ in range(draw.integers(0, 7))]
        found = [one + draw.normal(0, 1, (4, 2)) for one in true if draw.random() < 0.8] + [quad(draw, 15) for _ in range(draw.integers(0, 4))]
        found = [_polygons.simple(one) for one in found]
        one = Regions(true, list(draw.choice(words, len(true))), list(draw.random(len(true)) < 0.3), [np.nan] * len(true))
        other = Regions(found, list(draw.choice(words, len(found))), [False] * len(found), [np.nan] * len(found))
        for iou in (0.5, 0.2):
            assert icdar.counts(one, other, iou=iou)[0].tolist() == plain(one, other, iou)


def test_half_an_overlap_is_not_enough():
    half = np.array([[0, 0], [4, 0], [4, 2], [0, 2.0]])
    one = Regions([SQUARE], ["a"], [False], [np.nan])
    assert icdar.counts(one, Regions([half], ["a"], [False], [np.nan]))[0].tolist() == [1, 1, 0, 0]
    assert icdar.counts(one, Regions([half + np.array([0, 0.5])], ["a"], [False], [0.4]), iou=0.49, min_score=0.5)[0].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("true", "found", "right"),
    [("Stop", "STOP", 1), ("Stop!", "stop", 1), ('"Stop"', "stop", 1), ("stop", "stop!", 0), ("stop", "step", 0), ("!", "", 1), ("a", None, 0)],
)
def test_reading_is_compared_as_in_the_competition(true, found, right):
    counted, pairs, out = icdar.counts(Regions([SQUARE], [true], [False], [np.nan]), Regions([SQUARE], [found], [False], [np.nan]))
    assert counted.tolist() == [1, 1, 1, right]
    assert pairs == [(0, 0)]
    assert not out
