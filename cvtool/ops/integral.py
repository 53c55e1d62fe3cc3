"""Integral images: the sum over any rectangle in four look-ups (Viola & Jones 2001; Lienhart & Maydt 2002 for the tilted one).

A table has one row and one column more than its picture, so that `table[y, x]` is the sum of the pixels above and left of the corner (y, x)
and no look-up needs a border case. Integers stay integers: the tables are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = NDArray[Any]


def integral(image: NDArray[Any], *, dtype: Any = None) -> Table:
    """H W -> H+1 W+1: II(y, x) = the sum of image[:y, :x].

    In one pass this is the recursion II(i, j) = II(i, j-1) + II(i-1, j) - II(i-1, j-1) + I(i, j); two running sums give the same numbers. `dtype`
    defaults to int64 for integers and float64 for floats. A narrower integer may wrap around: sums over rectangles stay right as
    long as they fit, because differences wrap back.
    """
    dtype = dtype or (np.float64 if np.issubdtype(image.dtype, np.floating) else np.int64)
    table = np.zeros((image.shape[0] + 1, image.shape[1] + 1), dtype)
    inner = table[1:, 1:]
    np.cumsum(image, axis=1, dtype=dtype, out=inner)
    np.cumsum(inner, axis=0, out=inner)
    return table


def squared_integral(image: NDArray[Any]) -> Table:
    """The integral image of the squared pixels: with it, any rectangle's variance is E[x^2] - E[x]^2, also in four look-ups."""
    wide = image.astype(np.float64 if np.issubdtype(image.dtype, np.floating) else np.int64)
    return integral(wide * wide)


def tilted_integral(image: NDArray[Any], *, dtype: Any = None) -> Table:
    """H W -> H+1 W+1: T(y, x) = the sum of the pixels (v, u) with v < y and |u - x + 1| <= y - v - 1, a triangle that stands on its tip.

    Row y adds to row y-1 the two diagonals that go up from the tip (y-1, x-1), the tip counted once. What lies outside the picture counts zero.
    """
    height, width = image.shape
    dtype = dtype or (np.float64 if np.issubdtype(image.dtype, np.floating) else np.int64)
    table = np.zeros((height + 1, width + 1), dtype)
    left, right = np.zeros(width + 1, dtype), np.zeros(width + 1, dtype)  # up-left and up-right diagonals that end in column x-1
    for y in range(height):
        row = np.zeros(width + 1, dtype)
        row[1:] = image[y]
        left[1:], right[:-1] = left[:-1].copy(), right[1:].copy()
        left[0] = right[-1] = 0
        left += row
        right += row
        table[y + 1] = table[y] + left + right - row
    return table


def rectangle_sum(table: Table, x: Any, y: Any, width: Any, height: Any) -> Any:
    """The sum over [x, x+width) x [y, y+height), whole numbers or arrays of them: II(D) - II(B) - II(C) + II(A), A top left to D bottom right."""
    return table[y + height, x + width] - table[y, x + width] - table[y + height, x] + table[y, x]


def tilted_sum(table: Table, x: Any, y: Any, width: Any, height: Any) -> Any:
    """The sum over a rectangle turned by 45 degrees whose top corner is (x, y): `width` runs down right, `height` down left."""
    return table[y, x] - table[y + height, x - height] - table[y + width, x + width] + table[y + width + height, x + width - height]


def corner_table(table: Table, rows: int, cols: int) -> NDArray[np.float64]:
    """The integral image read at the corners of a grid of `rows` x `cols` equal cells laid over the picture: rows+1 cols+1 float64.

    Corners fall between pixels; there the table is interpolated bilinearly, which is exact for a picture made of square pixels: a
    cell takes of each pixel the part that it covers. So a filter scaled by any factor sums exactly its own area, without rounding.
    """
    height, width = table.shape[0] - 1, table.shape[1] - 1
    (top, down), (left, right) = _between(rows, height), _between(cols, width)
    lines = table[top] * (1 - down)[:, None] + table[np.minimum(top + 1, height)] * down[:, None]
    return lines[:, left] * (1 - right) + lines[:, np.minimum(left + 1, width)] * right


def _between(cells: int, pixels: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """For each of cells+1 corners: the pixel corner before it and how far it lies beyond, 0..1 (in whole numbers until the last step)."""
    whole, rest = np.divmod(np.arange(cells + 1) * pixels, cells)
    return whole.astype(np.intp), rest / cells
