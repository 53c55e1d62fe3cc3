"""Integral images against plain sums."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvtool.ops.integral import corner_table, integral, rectangle_sum, squared_integral, tilted_integral, tilted_sum


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def test_the_recursion():
    """II(i, j) = II(i, j-1) + II(i-1, j) - II(i-1, j-1) + I(i, j), pixel by pixel."""
    image = picture(7, 9)
    table = np.zeros((8, 10), np.int64)
    for i in range(1, 8):
        for j in range(1, 10):
            table[i, j] = table[i, j - 1] + table[i - 1, j] - table[i - 1, j - 1] + image[i - 1, j - 1]
    assert np.array_equal(integral(image), table)
    assert np.array_equal(integral(image)[1:, 1:], image.astype(int).cumsum(0).cumsum(1))


@given(height=st.integers(1, 12), width=st.integers(1, 12), seed=st.integers(0, 99), draw=st.data())
def test_four_look_ups_are_the_sum(height, width, seed, draw):
    image = picture(height, width, seed)
    x, y = draw.draw(st.integers(0, width)), draw.draw(st.integers(0, height))
    w, h = draw.draw(st.integers(0, width - x)), draw.draw(st.integers(0, height - y))
    part = image[y : y + h, x : x + w].astype(np.int64)
    assert rectangle_sum(integral(image), x, y, w, h) == part.sum()
    assert rectangle_sum(squared_integral(image), x, y, w, h) == (part**2).sum()
    floats = image / 7
    assert rectangle_sum(integral(floats), x, y, w, h) == pytest.approx(floats[y : y + h, x : x + w].sum())


def test_a_table_that_wraps_around_still_sums_right():
    image = np.full((300, 300), 255, np.uint8)
    table = integral(image, dtype=np.int16)
    assert rectangle_sum(table, np.array([0, 200]), np.array([0, 250]), 10, 10).tolist() == [25500, 25500]


def test_tilted_sums_are_sums_over_turned_rectangles():
    image = picture(14, 15)
    table = tilted_integral(image)

    def triangle(y, x):
        return sum(int(image[v, u]) for v in range(y) for u in range(15) if abs(u - x + 1) <= y - v - 1)

    assert all(table[y, x] == triangle(y, x) for y in range(15) for x in range(16))
    for x, y, w, h in ((7, 1, 4, 5), (6, 0, 2, 3), (8, 3, 5, 1)):
        turned = 0  # the pixels whose column and row, counted along the diagonals, fall inside
        for v in range(14):
            for u in range(15):
                turned += int(image[v, u]) * (0 < u + v + 2 - (x + y) <= 2 * w and 0 < (v - u) - (y - x) <= 2 * h)
        assert tilted_sum(table, x, y, w, h) == turned


def test_tilted_table_equals_opencv():
    cv2 = pytest.importorskip("cv2")
    image = picture(31, 22, 4)
    _, _, expected = cv2.integral3(image)
    assert np.array_equal(tilted_integral(image), expected)


def test_cells_between_pixels_take_their_share():
    """A scaled filter sums exactly its own area: against a sum in which every pixel counts by the part of it that is covered."""
    image = picture(10, 13)
    rows, cols = 4, 6
    table = corner_table(integral(image), rows, cols)

    def covered(first, last, pixels):
        return np.clip(np.minimum(np.arange(pixels) + 1, last) - np.maximum(np.arange(pixels), first), 0, 1)

    for i in range(rows):
        for j in range(cols):
            down, right = covered(i * 2.5, (i + 1) * 2.5, 10), covered(j * 13 / 6, (j + 1) * 13 / 6, 13)
            assert table[i + 1, j + 1] - table[i, j + 1] - table[i + 1, j] + table[i, j] == pytest.approx(down @ image.astype(float) @ right)
    assert np.array_equal(corner_table(integral(image), 10, 13), integral(image))
