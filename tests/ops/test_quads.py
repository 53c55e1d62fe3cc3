"""Quadrilaterals: order, area, overlap, smallest rectangle, shrinking, and the straightened pixels, against worked cases and plain references."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvtool.metrics import _polygons
from cvtool.ops import quads

PLACE = st.floats(-40, 40)
TURNED = st.tuples(PLACE, PLACE, st.floats(2, 60), st.floats(2, 30), st.floats(-3.1, 3.1))


def turned(x, y, width, height, angle):
    """4 2: a rectangle about (x, y)."""
    c, s = np.cos(angle), np.sin(angle)
    corners = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    return corners @ [[c, s], [-s, c]] + np.array([x, y])


@given(st.lists(st.tuples(TURNED, TURNED), min_size=1, max_size=6))
def test_overlaps_are_those_of_polygons_cut_into_triangles(pairs):
    a, b = (np.array([turned(*pair[k]) for pair in pairs]) for k in (0, 1))
    wanted = [_polygons.shared([one], [other])[0, 0] for one, other in zip(a, b, strict=True)]
    np.testing.assert_allclose(quads.overlap(a, b), wanted, atol=1e-6)
    np.testing.assert_allclose(quads.overlap(a[:, ::-1], b), wanted, atol=1e-6)  # whichever way the corners run
    union = np.array([p[0][2] * p[0][3] + p[1][2] * p[1][3] for p in pairs]) - wanted
    np.testing.assert_allclose(quads.iou(a, b), wanted / union, atol=1e-6)


def test_overlap_by_hand():
    square, diamond = quads.of_boxes([[0, 0, 2, 2]]), np.array([[[1, -1], [3, 1], [1, 3], [-1, 1]]])
    assert quads.overlap(square, diamond)[0] == pytest.approx(4)  # the square's corners lie on its sides
    assert quads.overlap(square, square + 1)[0] == pytest.approx(1)
    assert quads.iou(square, square + np.array([1, 0]))[0] == pytest.approx(1 / 3)
    assert quads.iou(square, square + 5)[0] == 0
    assert quads.iou(square * 0, square * 0)[0] == 0
    assert quads.iou(np.zeros((0, 4, 2)), np.zeros((0, 4, 2))).shape == (0,)
    assert quads.area(square)[0] == 4
    assert quads.area(square[:, ::-1])[0] == -4


def test_corners_in_any_order_come_out_clockwise_from_the_upper_left_one():
    quad = turned(20, 10, 30, 8, 0.5)
    for order in itertools.permutations(range(4)):
        np.testing.assert_array_equal(quads.ordered(quad[list(order)][None])[0], quad)


@given(TURNED)
def test_reading_begins_within_45_degrees_of_level(rectangle):
    found = quads.level(turned(*rectangle)[None])
    assert abs(quads.angles(found)[0]) <= np.pi / 4 + 1e-6
    assert quads.area(found)[0] > 0
    width, height = quads.sides(found)
    assert sorted((width[0], height[0])) == pytest.approx(sorted(rectangle[2:4]))


@given(st.lists(st.tuples(PLACE, PLACE), min_size=4, max_size=4))
def test_the_smallest_rectangle_holds_all_points_and_no_turned_one_is_smaller(points):
    points = np.array(points)
    found = quads.smallest_rectangles(points[None])
    size = quads.area(found)[0]
    for angle in np.linspace(0, np.pi / 2, 91):
        along = points @ [np.cos(angle), np.sin(angle)]
        across = points @ [-np.sin(angle), np.cos(angle)]
        assert size <= np.ptp(along) * np.ptp(across) + 1e-6
    spread = quads.shrunk(found, -1e-3)[0] if size > 1 else None
    if spread is not None:
        for a, b in zip(spread, np.roll(spread, -1, 0), strict=True):
            assert ((b - a)[0] * (points - a)[:, 1] - (b - a)[1] * (points - a)[:, 0] >= -1e-6).all()
    one = quads.smallest_rectangle(points)
    assert abs(quads.area(one)) == pytest.approx(size, abs=1e-6)


def test_the_smallest_rectangle_of_many_points_and_of_few():
    quad = turned(50, 40, 60, 20, -0.3)
    inside = np.random.default_rng(0).dirichlet(np.ones(4), 500) @ quad
    np.testing.assert_allclose(quads.smallest_rectangle(np.concatenate([inside, quad])), quad, atol=1e-9)
    assert len(quads.hull(np.concatenate([inside, quad]))) == 4
    np.testing.assert_array_equal(quads.smallest_rectangle(np.array([[3, 4]])), [[3, 4]] * 4)
    assert quads.area(quads.smallest_rectangle(np.array([[0, 0], [3, 4]]))) == pytest.approx(0)


def test_shrinking_by_hand():
    """r is the shorter side at each corner, 10: the long sides lose 3 pixels at both ends, then the short ones."""
    found = quads.shrunk(quads.of_boxes([[0, 0, 40, 10]]))
    np.testing.assert_allclose(found, quads.of_boxes([[3, 3, 37, 7]]))
    np.testing.assert_allclose(quads.shrunk(quads.of_boxes([[0, 0, 10, 40]])), quads.of_boxes([[3, 3, 7, 37]]))
    np.testing.assert_allclose(quads.shrunk(quads.of_boxes([[0, 0, 40, 6]]), least=4), quads.of_boxes([[1, 1, 39, 5]]))
    np.testing.assert_allclose(quads.shrunk(quads.of_boxes([[0, 0, 40, 3]]), least=4), quads.of_boxes([[0, 0, 40, 3]]))
    np.testing.assert_allclose(quads.shrunk(turned(0, 0, 40, 10, 1.0)[None])[0], turned(0, 0, 34, 4, 1.0))


def picture(height=60, width=90):
    """Smooth, so that interpolation is exact to a grey value: red grows to the right, green downwards."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([2.5 * x, 4 * y, 0 * x + 80], 2).round().astype(np.uint8)


def test_an_upright_crop_is_the_picture_itself():
    pixels = picture()
    np.testing.assert_array_equal(quads.crop(pixels, quads.of_boxes([[10, 20, 50, 40]])[0]), pixels[20:40, 10:50])
    (half,) = quads.crops(pixels, quads.of_boxes([[10, 20, 50, 40]]), 10)
    assert half.shape == (10, 20, 3)


@given(st.floats(-3.1, 3.1), st.integers(8, 32))
def test_a_turned_crop_reads_the_places_it_should(angle, height):
    quad = turned(45, 30, 30, 14, angle)
    found = quads.crop(picture(), quad, height).astype(float)
    rows, columns = found.shape[:2]
    assert (rows, columns) == (height, round(30 * height / 14))
    v, u = (np.mgrid[:rows, :columns] + 0.5) / np.array([rows, columns])[:, None, None]
    place = quad[0] + u[..., None] * (quad[1] - quad[0]) + v[..., None] * (quad[3] - quad[0])
    inner = (slice(1, -1), slice(1, -1))
    assert np.abs(found[..., 0] - 2.5 * place[..., 0])[inner].max() < 4
    assert np.abs(found[..., 1] - 4 * place[..., 1])[inner].max() < 6


def test_the_perspective_map_takes_corners_to_corners_and_lines_to_lines():
    source, target = quads.of_boxes([[0, 0, 40, 10]])[0], np.array([[5, 5], [60, 0], [70, 40], [0, 20.0]])
    matrix = quads.perspective(source, target)
    moved = np.column_stack([source, np.ones(4)]) @ matrix.T
    np.testing.assert_allclose(moved[:, :2] / moved[:, 2:], target, atol=1e-9)
    middle = np.array([20, 5, 1]) @ matrix.T  # diagonals meet where diagonals meet
    a, b = target[2] - target[0], target[3] - target[1]
    t = np.linalg.solve(np.stack([a, -b], 1), target[1] - target[0])[0]
    np.testing.assert_allclose(middle[:2] / middle[2], target[0] + t * a, atol=1e-9)
    assert np.isfinite(quads.perspective(source, np.zeros((4, 2)))).all()


def test_crops_at_the_border_and_of_nothing():
    pixels = picture()
    out = quads.crop(pixels, quads.of_boxes([[-20, -10, 10, 10]])[0])
    assert out.shape == (20, 30, 3)
    np.testing.assert_array_equal(out[:10, :20], np.broadcast_to(pixels[0, 0], (10, 20, 3)))
    assert quads.crop(pixels, np.full((4, 2), 5.0)).shape == (1, 1, 3)
    assert quads.crop(pixels, np.full((4, 2), 500.0), 8).shape[0] == 8
    assert quads.crop(pixels, turned(0, 0, 30, 12, 0.4), 32).shape == (32, 80, 3)
    assert quads.crops(pixels, np.zeros((0, 4, 2))) == []
