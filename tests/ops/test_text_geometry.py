"""Regions of text as maps: what decode makes of what encode told, and which cells belong to which word."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvtool.ops.quads import of_boxes, smallest_rectangles
from cvtool.ops.text_geometry import NOTHING, UNCOUNTED, decode_quad, decode_rbox, encode_quad, encode_rbox, middles, owners

pytestmark = pytest.mark.system("east")
PLACE = st.floats(-200, 200)
CORNERS = st.lists(st.tuples(PLACE, PLACE), min_size=4, max_size=4)


@given(st.tuples(PLACE, PLACE, st.floats(1, 300), st.floats(1, 60), st.floats(-math.pi / 4, math.pi / 4)), st.tuples(PLACE, PLACE))
def test_a_rotated_box_told_by_any_place_is_that_box(box, place):
    x, y, width, height, angle = box
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    quad = (torch.tensor(of_boxes([[-width / 2, -height / 2, width / 2, height / 2]])) @ turn + torch.tensor([x, y], dtype=torch.float64)).double()
    places = torch.tensor([place], dtype=torch.float64)
    told = encode_rbox(places, quad)
    assert told.shape == (1, 5)
    assert float(told[0, 4]) == pytest.approx(angle, abs=1e-9)
    assert float(told[0, 0] + told[0, 2]) == pytest.approx(height)
    assert float(told[0, 1] + told[0, 3]) == pytest.approx(width)
    torch.testing.assert_close(decode_rbox(places, told), quad)


def test_the_numbers_of_an_upright_box_are_distances_to_its_sides():
    """Top, right, bottom, left of (30, 14) in a box from (10, 10) to (60, 20), then the angle."""
    told = encode_rbox(torch.tensor([[30.0, 14.0]]), torch.tensor(of_boxes([[10, 10, 60, 20]])).float())
    assert told.tolist() == [[4, 30, 6, 20, 0]]


@given(CORNERS, st.tuples(PLACE, PLACE))
def test_a_quadrilateral_told_by_any_place_is_that_quadrilateral(corners, place):
    quad, places = torch.tensor([corners], dtype=torch.float64), torch.tensor([place], dtype=torch.float64)
    told = encode_quad(places, quad)
    assert told.shape == (1, 8)
    torch.testing.assert_close(told[0, :2], quad[0, 0] - places[0])
    torch.testing.assert_close(decode_quad(places, told), quad)


def test_cells_of_a_word_are_those_whose_middles_lie_in_the_shrunk_quad():
    """(8, 8) to (72, 40) loses 0.3 of its height on each side: (17.6, 17.6) to (62.4, 30.4), in which lie the middles 18..62 and 18..30."""
    found = owners(of_boxes([[8, 8, 72, 40]]), np.array([False]), (64, 96))
    assert found.shape == (16, 24)
    wanted = np.full((16, 24), NOTHING)
    wanted[4:8, 4:16] = 0
    np.testing.assert_array_equal(found, wanted)


def test_spared_and_tiny_words_are_not_counted_whole_and_the_smaller_word_wins():
    quads = of_boxes([[0, 0, 64, 64], [16, 16, 48, 48], [0, 0, 40, 4], [64, 0, 96, 32]])
    found = owners(quads, np.array([False, False, False, True]), (64, 96))
    assert (found[:8, 16:] == UNCOUNTED).all()  # spared: unshrunk
    assert (found[0, :10] == UNCOUNTED).all()  # four pixels high
    assert found[8, 8] == 1  # the word inside
    assert found[5, 5] == 0  # the one around it
    counted = owners(quads[[3, 0]] - [40, 0], np.array([True, False]), (64, 96))
    assert counted[5, 8] == UNCOUNTED  # where nothing else lies
    over = owners(np.concatenate([quads[:1], quads[:1]]), np.array([True, False]), (64, 96))
    assert over[8, 8] == 1  # a word in what is spared is learned


@given(st.floats(0, 8), st.floats(0, 8), st.floats(5.1, 12))
def test_a_thin_word_has_a_line_of_cells_wherever_it_lies(x, y, height):
    found = owners(of_boxes([[x, y, x + 50, y + height]]), np.array([False]), (32, 96))
    assert (found == 0).any(0).sum() >= 8


def test_cells_stand_at_their_middles_and_tell_the_rectangle_around_an_uneven_quad():
    quad = np.array([[[8.0, 10], [88, 14], [88, 44], [8, 40]]])
    owner = torch.from_numpy(owners(quad, np.array([False]), (64, 96)))
    row, column = (owner >= 0).nonzero(as_tuple=True)
    places = middles(row, column)
    assert ((places % 4) == 2).all()
    rectangle = torch.from_numpy(smallest_rectangles(quad)).float().expand(len(row), 4, 2)
    torch.testing.assert_close(decode_rbox(places, encode_rbox(places, rectangle)), rectangle, atol=1e-3, rtol=1e-4)


def test_no_words_at_all():
    assert (owners(np.zeros((0, 4, 2)), np.zeros(0, bool), (32, 32)) == NOTHING).all()
    far = owners(of_boxes([[500, 500, 600, 520], [-90, -90, -20, -60]]), np.zeros(2, bool), (32, 32))
    assert (far == NOTHING).all()
