"""Regions of text as maps: which cells of a grid lie in a word, and the word's place as each of its cells tells it, both ways (Zhou 2017,
arXiv:1704.03155, section 3.3).

RBOX: the distances from the cell to the four sides, and the angle of the text: 5 numbers. (A seed text calls them distances to the corners; they are
those to the sides.) QUAD: the offsets from the cell to the four corners: 8 numbers. Distances are in pixels; a cell stands at its middle.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cvtool.ops.quads import bounds, clockwise, shrunk, sides

NOTHING, UNCOUNTED = -1, -2  # owners of cells in no word, and of those that no loss looks at


def owners(quads: np.ndarray, spared: np.ndarray, size: tuple[int, int], *, stride: int = 4, part: float = 0.3, least: float = 5.0) -> np.ndarray:
    """N 4 2 and N bool -> h w int64 for a picture of `size` (H, W) pixels: the quad in which each cell lies, shrunk by `part`; NOTHING; or UNCOUNTED,
    within a spared quad or one whose shorter side is below `least` pixels. Where quads overlap, the smaller has the cell.

    Of a thin quad a line of at least one cell stays, so that it is learned from.
    """
    rows, columns = size[0] // stride, size[1] // stride
    out = np.full((rows, columns), NOTHING, np.int64)
    quads = clockwise(np.asarray(quads, np.float64).reshape(-1, 4, 2))
    if not len(quads):
        return out
    wide, high = sides(quads)
    left_out = np.asarray(spared, bool).reshape(-1) | (np.minimum(wide, high) < least)
    inner = np.where(left_out[:, None, None], quads, shrunk(quads, part, stride))
    order = np.lexsort((-wide * high, ~left_out))  # what is not counted first, then from large to small
    for i in order:
        x0, y0, x1, y1 = bounds(inner[i])
        left, right = max(0, int(np.floor(x0 / stride))), min(columns, int(np.ceil(x1 / stride)))
        top, bottom = max(0, int(np.floor(y0 / stride))), min(rows, int(np.ceil(y1 / stride)))
        if left >= right or top >= bottom:
            continue
        x, y = (np.arange(left, right) + 0.5) * stride, ((np.arange(top, bottom) + 0.5) * stride)[:, None]
        inside = np.ones((bottom - top, right - left), bool)
        for k in range(4):
            (ax, ay), (bx, by) = inner[i, k], inner[i, (k + 1) % 4]
            inside &= (bx - ax) * (y - ay) - (by - ay) * (x - ax) >= 0
        out[top:bottom, left:right][inside] = UNCOUNTED if left_out[i] else i
    return out


def middles(rows: Tensor, columns: Tensor, stride: int = 4) -> Tensor:
    """P row and P column numbers of cells -> P 2, the places (x, y) of their middles in pixels."""
    return (torch.stack([columns, rows], 1) + 0.5) * stride


def encode_rbox(places: Tensor, rectangles: Tensor) -> Tensor:
    """P 2 places and P 4 2 rotated rectangles -> P 5: distances to the top, right, bottom and left side, and the angle (radians, positive falls to
    the right). Negative distances: the place lies outside of that side."""
    along, down = rectangles[:, 1] - rectangles[:, 0], rectangles[:, 3] - rectangles[:, 0]
    width, height = along.norm(dim=1), down.norm(dim=1)
    angle = torch.atan2(along[:, 1], along[:, 0])
    u, v = _axes(angle)
    offset = places - rectangles[:, 0]
    left, top = (offset * u).sum(1), (offset * v).sum(1)
    return torch.stack([top, width - left, height - top, left, angle], 1)


def decode_rbox(places: Tensor, values: Tensor) -> Tensor:
    """P 2 and P 5 -> P 4 2 rectangles: the inverse of `encode_rbox`."""
    top, right, bottom, left, angle = values.unbind(1)
    u, v = _axes(angle)
    corners = ((-left, -top), (right, -top), (right, bottom), (-left, bottom))
    return torch.stack([places + a[:, None] * u + b[:, None] * v for a, b in corners], 1)


def _axes(angle: Tensor) -> tuple[Tensor, Tensor]:
    """P -> (P 2 along the text, P 2 down from it)."""
    c, s = angle.cos(), angle.sin()
    return torch.stack([c, s], 1), torch.stack([-s, c], 1)


def encode_quad(places: Tensor, quads: Tensor) -> Tensor:
    """P 2 and P 4 2 -> P 8: (dx, dy) from the place to each corner."""
    return (quads - places[:, None]).flatten(1)


def decode_quad(places: Tensor, values: Tensor) -> Tensor:
    """P 2 and P 8 -> P 4 2: the inverse of `encode_quad`."""
    return places[:, None] + values.unflatten(1, (4, 2))
