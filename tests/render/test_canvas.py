"""Shapes: where they are drawn, to the pixel, and that nothing else is touched."""

import numpy as np
import pytest
from PIL import Image

from cvtool.render import boxes
from cvtool.render.canvas import Canvas

RED = (255, 0, 0)


def blank(width=40, height=30):
    return Canvas(Image.new("RGB", (width, height), (0, 0, 0)))


def red(canvas):
    """The canvas's coverage by red, 0..255."""
    return np.asarray(canvas.image)[..., 0]


def test_a_ring_lies_on_its_pixels():
    canvas = blank()
    canvas.ring(5, 6, 25, 20, 2, RED)
    wanted = np.zeros((30, 40), bool)
    wanted[6:20, 5:25] = True
    wanted[8:18, 7:23] = False
    assert (red(canvas) == np.where(wanted, 255, 0)).all()


def test_a_round_ring_keeps_its_sides_and_leaves_its_corners():
    canvas = blank()
    canvas.ring(5, 5, 25, 25, 2, RED, radius=6)
    assert red(canvas)[5, 15] == red(canvas)[15, 5] == red(canvas)[24, 15] == 255
    assert red(canvas)[5, 5] == red(canvas)[15, 15] == 0


def test_dashes_begin_and_end_each_side():
    canvas = blank(80, 60)
    canvas.dashes(4, 4, 76, 56, 2, RED)
    drawn = red(canvas) > 0
    assert all(drawn[y, x] for y in (4, 55) for x in (4, 75))
    assert 0.3 < drawn[4, 4:76].mean() < 0.9
    assert not drawn[6:54, 6:74].any()


def test_a_disc_covers_its_area():
    canvas = blank()
    canvas.disc(20, 15, 7, RED)
    assert red(canvas).sum() / 255 == pytest.approx(np.pi * 49, rel=0.01)


def test_a_line_covers_its_area_and_has_soft_edges():
    canvas = blank(100, 100)
    canvas.line([(20, 20), (80, 65)], 4, RED)
    assert red(canvas).sum() / 255 == pytest.approx(75 * 4 + np.pi * 4, rel=0.02)
    assert ((red(canvas) > 0) & (red(canvas) < 255)).any()


def test_a_panel_covers_parts_of_pixels():
    canvas = blank()
    canvas.panel(4.5, 5, 10, 9.25, RED)
    assert red(canvas)[6, 4] == 128
    assert red(canvas)[9, 6] == 64
    assert red(canvas)[6, 6] == 255


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (40, 30)])
def test_what_leaves_the_canvas_is_cut_off(size):
    canvas = blank(*size)
    canvas.ring(-10, -10, 200, 200, 3, RED, radius=5)
    canvas.dashes(-5, -5, 3, 300, 2, RED)
    canvas.panel(-1e5, -1e5, 1e5, 1e5, RED, radius=9, opacity=0.5)
    canvas.line([(-50, -50), (90, 90)], 2, RED)
    canvas.line([(float("nan"), 0), (5, float("inf")), (1e9, 1e9)], 2, RED)
    canvas.disc(-3, -3, 2, RED)
    canvas.circle(500, 2, 20, 3, RED)
    canvas.fill(5, 5, 2, 2, RED)
    assert canvas.image.size == size


def test_the_line_of_a_box_lies_inside_it():
    canvas = blank(80, 60)
    boxes.draw(canvas, (10, 10, 60, 50), RED, 3)
    drawn = np.asarray(canvas.image)
    assert (drawn[10, 20] == RED).all()
    assert (drawn[12, 20] == RED).all()
    assert (drawn[49, 20] == RED).all()
    assert not drawn[20:40, 20:50].any()
    assert not drawn[:8].any()


def test_the_line_of_a_tiny_box_leaves_what_is_in_it():
    canvas = blank(80, 60)
    boxes.draw(canvas, (30, 30, 34, 34), RED, 2)
    drawn = np.asarray(canvas.image)
    assert not drawn[30:34, 30:34].any()
    assert (drawn[28, 30] == RED).all()
