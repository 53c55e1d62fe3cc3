"""Lines of letters: their direction, who follows whom, the box around them, and what characters' middles say of it."""

import math

import numpy as np
import pytest

from cvtool.ops import quads, text_lines
from cvtool.ops.text_lines import Letters


def rows(angle, *lines, at=(200.0, 150.0)):
    """Letters as rectangles of pixels: for each line (offset across, [(place along, width, height above the foot), ...]), turned by `angle`."""
    along, across = text_lines.axes(angle)
    found = []
    for offset, letters in lines:
        for place, width, height in letters:
            u, v = np.meshgrid(np.arange(place, place + width), np.arange(offset - height, offset))
            found.append(u.reshape(-1, 1) * along + v.reshape(-1, 1) * across + np.array(at))
    return Letters(found)


WORD = [(0, 10, 20), (14, 10, 14), (28, 10, 14), (42, 8, 20), (54, 10, 14), (68, 10, 14)]


@pytest.mark.parametrize("degrees", [-80, -40, -15, 0, 10, 37, 60, 88])
def test_the_direction_is_that_of_the_row(degrees):
    letters = rows(math.radians(degrees), (0, WORD))
    off = (math.degrees(text_lines.direction(letters)) - degrees + 90) % 180 - 90
    assert abs(off) <= 6
    line = text_lines.groups(letters, text_lines.direction(letters))
    assert [sorted(members.tolist()) for members in line] == [list(range(6))]
    box = text_lines.box(letters, line[0], text_lines.direction(letters))
    true = rows(math.radians(degrees), (0, [(0, 78, 20)]))
    assert quads.iou(box[None], quads.smallest_rectangle(np.concatenate(true.points))[None])[0] > 0.85


def test_lines_of_one_block_are_told_apart_and_far_letters_left_out():
    letters = rows(0.3, (0, WORD), (40, WORD), (20, [(300, 10, 16)]))
    found = text_lines.groups(letters, 0.3)
    assert [members.tolist() for members in found] == [list(range(6)), list(range(6, 12)), [12]]


def test_letters_of_other_heights_do_not_join():
    letters = rows(0.0, (0, [(0, 10, 20), (14, 10, 20), (28, 30, 60)]))
    assert [members.tolist() for members in text_lines.groups(letters, 0.0)] == [[0, 1], [2]]


def test_a_box_is_widened_to_its_block_and_no_higher():
    letters = rows(0.0, (0, WORD), at=(100.0, 100.0))
    block = np.stack(np.meshgrid(np.arange(80.5, 200), np.arange(60.5, 140)), -1).reshape(-1, 2)
    plain = quads.bounds(text_lines.box(letters, np.arange(6), 0.0))
    wide = quads.bounds(text_lines.box(letters, np.arange(6), 0.0, block))
    assert wide[[0, 2]] == pytest.approx([80, 200])
    assert wide[[1, 3]] == pytest.approx(plain[[1, 3]])


@pytest.mark.system("textblock-fcn")
def test_middles_that_are_missing_unlikely_or_astray_make_no_line():
    quad = np.array([[0.0, 0], [100, 0], [100, 20], [0, 20]])
    middles = np.stack([np.linspace(10, 90, 6), np.full(6, 10.0)], 1)
    turn = np.array([[math.cos(0.6), math.sin(0.6)], [-math.sin(0.6), math.cos(0.6)]])
    for where, box in ((middles, quad), (middles @ turn, quad @ turn), (middles[:, ::-1], quad[:, ::-1][::-1])):  # level, slanted, downwards
        assert text_lines.in_a_row(where, np.full(6, 0.9), box)
        assert not text_lines.in_a_row(where, np.full(6, 0.5), box)
        assert not text_lines.in_a_row(where[:0], np.zeros(0), box)
    astray = middles + np.array([[0, 9.0], [0, -9]] * 3)
    assert not text_lines.in_a_row(astray, np.full(6, 0.9), quad)
    climbing = middles + np.stack([np.zeros(6), np.linspace(-9, 9, 6)], 1)
    assert not text_lines.in_a_row(climbing, np.full(6, 0.9), quad)


def test_peaks_are_the_centres_of_parts_within_the_quad():
    maps = np.zeros((40, 120))
    for x in (20, 50, 80, 110):
        maps[18:23, x - 2 : x + 3] = 0.8
    points, sure = text_lines.peaks(maps, np.array([[10.0, 10], [95, 10], [95, 30], [10, 30]]))
    assert np.allclose(points, [[20.5, 20.5], [50.5, 20.5], [80.5, 20.5]])
    assert np.allclose(sure, 0.8)
    assert len(text_lines.peaks(maps, np.array([[300.0, 10], [400, 10], [400, 30], [300, 30]]))[0]) == 0
