"""The contact sheet: everything on it, in order, and bounded."""

import numpy as np
import pytest
from PIL import Image

from cvtool.render.grid import ContactSheet


def plain(size, value):
    return Image.new("RGB", size, (value, 255 - value, 77))


def test_every_picture_is_on_it_in_order():
    sheet = ContactSheet(height=120)
    for i in range(7):
        sheet.add(f"{i}.jpg", plain((160, 120), 10 + 30 * i))
    rows = sheet.rows()
    assert [name for row in rows for name, _ in row] == [f"{i}.jpg" for i in range(7)]
    out = np.asarray(sheet.image())
    for i in range(7):
        value = 10 + 30 * i
        assert (out == (value, 255 - value, 77)).all(axis=2).sum() == 160 * 120
    assert 0.7 < out.shape[1] / out.shape[0] < 3


def test_large_pictures_are_made_smaller_and_small_ones_are_not_enlarged():
    sheet = ContactSheet(height=100)
    sheet.add("large", plain((800, 600), 10))
    sheet.add("small", plain((40, 30), 20))
    sheet.add("wide", plain((4000, 100), 30))
    heights = {name: image.size for row in sheet.rows() for name, image in row}
    assert heights["large"][1] <= 180
    assert heights["small"] == (40, 30)
    assert heights["wide"][0] <= 320


def test_memory_and_size_are_bounded_however_many_come():
    sheet = ContactSheet(limit=600, height=200, least=40)
    for i in range(1000):
        sheet.add(f"{i}", plain((round(sheet.height * 1.3), sheet.height), i % 256))
        assert sheet._pixels <= 600**2
    assert sheet.full
    assert sheet.count == 1000
    image = sheet.image()
    assert image.width <= 700
    assert image.height <= 900


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_odd_shapes_fit(size):
    sheet = ContactSheet()
    sheet.add("odd", plain(size, 5))
    sheet.add("", plain((30, 30), 5))
    assert sheet.image().width > 0
    assert sheet.scale(size) > 0
