"""Shapes between COCO's forms: masks from polygons or RLE, one polygon from several, polygons from a mask. Coordinates are pixels, 0-based."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cvtool.errors import InputError

if TYPE_CHECKING:
    import numpy as np


def area(ring: list[float]) -> float:
    """The area inside [x1, y1, x2, y2, ...], by the shoelace formula."""
    import numpy as np

    x, y = np.asarray(ring, dtype=np.float64).reshape(-1, 2).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def bounds(rings: list[list[float]]) -> list[float]:
    """[x, y, w, h] around all rings."""
    import numpy as np

    points = np.concatenate([np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in rings])
    low, high = points.min(0), points.max(0)
    return [float(v) for v in (*low, *(high - low))]


def joined(rings: list[list[float]]) -> list[float]:
    """Several rings as one: from each to the next along a corridor of no width, so that the enclosed area stays the same."""
    import numpy as np

    whole = np.asarray(rings[0], dtype=np.float64).reshape(-1, 2)
    for ring in rings[1:]:
        part = np.asarray(ring, dtype=np.float64).reshape(-1, 2)
        distances = ((whole[:, None] - part[None]) ** 2).sum(-1)
        i, j = np.unravel_index(int(distances.argmin()), distances.shape)
        loop = np.concatenate([part[j:], part[: j + 1]])  # out, once around, and back to where it began
        whole = np.concatenate([whole[: i + 1], loop, whole[i:]])
    return whole.reshape(-1).tolist()


def bounded(width: int, height: int) -> None:
    """Refuse a mask larger than any picture may be. Raises InputError."""
    from cvtool.images import max_pixels

    if width * height > max_pixels():
        raise InputError(f"a mask of {width} x {height} has more than {max_pixels():,} pixels", hint="CVTOOL_MAX_PIXELS=N allows more")


def mask(shape: Any, width: int, height: int) -> np.ndarray:
    """COCO's polygons or RLE as an H W uint8 mask of 0 and 1. Raises InputError for a shape that is none, or that is not of this size."""
    import numpy as np
    from pycocotools import mask as tools

    bounded(width, height)
    try:
        if isinstance(shape, dict):
            if list(shape["size"]) != [height, width]:
                raise InputError(f"an RLE of size {shape['size']} in a picture of [{height}, {width}]")
            if isinstance(shape["counts"], list):
                if sum(shape["counts"]) != width * height:
                    raise InputError("the counts of an RLE do not add up to its size")
                shape = tools.frPyObjects(shape, *shape["size"])
            elif isinstance(shape["counts"], str):
                shape = shape | {"counts": shape["counts"].encode("ascii")}
            return tools.decode(shape)
        rings = [ring for ring in shape if len(ring) >= 6]
        if not rings:
            return np.zeros((height, width), dtype=np.uint8)
        return tools.decode(tools.merge(tools.frPyObjects(rings, height, width)))
    except (ValueError, TypeError, KeyError, UnicodeEncodeError) as error:
        raise InputError(f"a malformed mask: {error}") from error


def outlines(pixels: np.ndarray) -> list[list[float]]:
    """The outer boundaries of a mask's parts along its pixel edges, as polygons; holes are filled."""
    from scipy.ndimage import binary_fill_holes, label

    parts, count = label(binary_fill_holes(pixels))
    return [_outline(parts == number) for number in range(1, count + 1)]


def _outline(part: np.ndarray) -> list[float]:
    """One 4-connected part without holes: its boundary, walked along pixel corners with the inside on the right."""
    import numpy as np

    padded = np.pad(part, 1)
    row = int(padded.any(1).argmax())
    start = (row, int(padded[row].argmax()))  # the top left corner of its first pixel
    corner, step = start, (0, 1)
    ring = [float(start[1] - 1), float(start[0] - 1)]
    while True:
        y, x = corner
        # the pixels ahead, left and right of the corner seen along the step
        ahead = {
            (0, 1): ((y - 1, x), (y, x)),
            (1, 0): ((y, x), (y, x - 1)),
            (0, -1): ((y, x - 1), (y - 1, x - 1)),
            (-1, 0): ((y - 1, x - 1), (y - 1, x)),
        }
        left, right = (bool(padded[p]) for p in ahead[step])
        # where two pixels touch at a corner only, turn right: the part is 4-connected, so they belong to different stretches of its boundary
        turn = (step[1], -step[0]) if not right else (-step[1], step[0]) if left else step
        if turn != step:
            ring += [float(x - 1), float(y - 1)]
            step = turn
        corner = (y + step[0], x + step[1])
        if corner == start:
            break
    return ring
