"""Masks on a canvas: COCO's polygons and run lengths into pixels, and pixels into a tint with a crisp contour."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from cvtool.errors import InputError
from cvtool.render.canvas import Canvas
from cvtool.render.palette import Colour

TILE = 192  # pixels


@dataclass
class Region:
    """The pixels of one object: `mask` (h w bool) is the part of the canvas whose top left pixel is (x, y)."""

    mask: np.ndarray
    x: int
    y: int

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 around the pixels."""
        return self.x, self.y, self.x + self.mask.shape[1], self.y + self.mask.shape[0]

    def tips(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The middle of its top row and of its bottom row, each on the outer edge."""
        top, bottom = (float(np.flatnonzero(row).mean()) + 0.5 for row in (self.mask[0], self.mask[-1]))
        return (self.x + top, self.y), (self.x + bottom, self.y + self.mask.shape[0])

    def heart(self) -> tuple[float, float]:
        """A point well inside, as far from the edge as may be: roughly, by erosion with boxes that double, on at most 256 samples a side."""
        every = max(1, max(self.mask.shape) // 256)
        mask = np.pad(self.mask[::every, ::every], 1)
        step = 1
        while True:
            total = np.pad(mask.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32), ((1, 0), (1, 0)))
            side = 2 * step + 1
            if side > min(mask.shape):
                break
            window = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
            smaller = np.zeros_like(mask)
            smaller[step:-step, step:-step] = window == side * side
            if not smaller.any():
                break
            mask, step = smaller, step * 2
        rows, columns = np.nonzero(mask)
        middle = ((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2).argmin()
        return self.x + float(columns[middle] - 1) * every + 0.5, self.y + float(rows[middle] - 1) * every + 0.5


def region(segmentation: Any, size: tuple[int, int], scale: float = 1.0) -> Region | None:
    """An annotation's `segmentation` on a canvas that is `scale` times a picture of (width, height); None where it is empty.

    Polygons (flat lists x, y, x, y ...) and run lengths (compressed or not) as COCO has them, or an H W bool array. Raises InputError for anything
    else, and for run lengths of another picture size.
    """
    width, height = size
    across, down = max(round(width * scale), 1), max(round(height * scale), 1)
    if isinstance(segmentation, list):
        full = _polygons(segmentation, across, down, scale)
    elif isinstance(segmentation, dict | np.ndarray):
        full = segmentation if isinstance(segmentation, np.ndarray) else _runs(segmentation, width, height)
        if full is not None and (across, down) != (width, height):
            kind = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
            full = np.asarray(Image.fromarray(full.view(np.uint8) * np.uint8(255)).resize((across, down), kind)) > 127
    else:
        raise InputError("a segmentation is neither polygons nor run lengths")
    return None if full is None else cut(full)


def cut(full: np.ndarray) -> Region | None:
    """An H W mask as its own smallest part; None where it is empty."""
    rows, columns = np.flatnonzero(full.any(1)), np.flatnonzero(full.any(0))
    if not len(rows):
        return None
    y, x = int(rows[0]), int(columns[0])
    return Region(np.ascontiguousarray(full[y : rows[-1] + 1, x : columns[-1] + 1]), x, y)


def _polygons(polygons: list, across: int, down: int, scale: float) -> np.ndarray | None:
    from pycocotools import mask as coco

    scaled = []
    for polygon in polygons:
        try:
            points = np.asarray(polygon, dtype=np.float64).reshape(-1) * scale
        except (TypeError, ValueError) as error:
            raise InputError("a polygon is not a flat list of numbers") from error
        if len(points) % 2 or not np.isfinite(points).all():
            raise InputError("a polygon is not a list of pairs of finite numbers")
        if len(points) >= 6:  # fewer than three points enclose nothing
            scaled.append(np.clip(points, -4.0 * max(across, down), 5.0 * max(across, down)).tolist())
    if not scaled:
        return None
    return coco.decode(coco.merge(coco.frPyObjects(scaled, down, across))).view(np.bool_)


def _runs(runs: dict, width: int, height: int) -> np.ndarray | None:
    from pycocotools import mask as coco

    counts, size = runs.get("counts"), runs.get("size")
    if not isinstance(size, list | tuple) or len(size) != 2 or counts is None:
        raise InputError("run lengths without 'size' or 'counts'")
    if [int(size[0]), int(size[1])] != [height, width]:
        raise InputError(f"a mask is of a picture of {size[1]} x {size[0]} pixels, this one has {width} x {height}")
    try:
        if isinstance(counts, list):
            lengths = np.asarray(counts, dtype=np.int64)
            if lengths.ndim != 1 or (lengths < 0).any() or (lengths > width * height).any() or lengths.sum() != width * height:
                raise ValueError("the runs do not add up to the picture")
            return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T
        if not isinstance(counts, str | bytes):
            raise ValueError("they are neither text nor a list")
        data = counts.encode("ascii") if isinstance(counts, str) else counts
        return coco.decode({"size": [height, width], "counts": data}).view(np.bool_)
    except (TypeError, ValueError, UnicodeEncodeError) as error:
        raise InputError(f"a mask's run lengths are damaged: {error}") from error


def tint(canvas: Canvas, part: Region, colour: Colour, opacity: float) -> None:
    """Colour exactly the pixels of the mask."""
    canvas.stamp(part.mask, part.x, part.y, colour, opacity)


def contour(canvas: Canvas, part: Region, colour: Colour, line: float, *, rim: float = 0.0, rim_colour: Colour = (0, 0, 0)) -> None:
    """A smooth line `line` pixels wide along the inside of the mask's edge; `rim` darkens a thin line outside it by so much (0..1).

    The mask is blurred by a Gaussian whose width goes with the line's; near an edge its value tells the distance, which gives soft borders without
    supersampling. Parts of the mask thinner than the line are filled. No line runs along the picture's own border.
    """
    sigma = max(line / 1.6, 0.8)
    margin, reach = int(3 * sigma) + 2, int(max(1.0, line / 3)) + 2
    height, width = part.mask.shape
    pad = margin + reach
    inside = np.pad(part.mask.view(np.uint8) * np.uint8(255), pad)
    if part.x <= 0:
        inside[:, :pad] = inside[:, pad : pad + 1]
    if part.y <= 0:
        inside[:pad] = inside[pad : pad + 1]
    if part.x + width >= canvas.size[0]:
        inside[:, pad + width :] = inside[:, pad + width - 1 : pad + width]
    if part.y + height >= canvas.size[1]:
        inside[pad + height :] = inside[pad + height - 1 : pad + height]
    tables = _levels(round(line * 8), round(sigma * 8))
    for top in range(0, height + 2 * reach, TILE):
        for left in range(0, width + 2 * reach, TILE):
            window = inside[top : top + TILE + 2 * margin, left : left + TILE + 2 * margin]
            if window.min() < window.max():  # tiles without an edge have no contour: most of a large mask
                x, y = part.x - reach + left, part.y - reach + top
                _edge(canvas, window, margin, x, y, sigma, tables, colour, rim, rim_colour)


def _edge(
    canvas: Canvas,
    window: np.ndarray,
    margin: int,
    x: int,
    y: int,
    sigma: float,
    tables: tuple[np.ndarray, np.ndarray, np.ndarray],
    colour: Colour,
    rim: float,
    rim_colour: Colour,
) -> None:
    """The contour in one tile, whose pixels begin at (x, y) of the canvas and at (margin, margin) of `window`."""
    within, beyond, outline = tables
    core = (slice(margin, window.shape[0] - margin), slice(margin, window.shape[1] - margin))
    values = np.asarray(Image.fromarray(np.ascontiguousarray(window)).filter(ImageFilter.GaussianBlur(sigma)))[core]
    mask = window[core] > 0
    if rim:
        canvas.stamp(np.where(mask, np.uint8(0), outline[values]), x, y, rim_colour, rim)
    canvas.stamp(np.where(mask, within[values], beyond[values]), x, y, colour)


@cache
def _levels(line8: int, sigma8: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tables from a blurred value (0..255) to the line's coverage (0..255) inside and outside the mask, and to that of a thin line around it."""
    line, sigma = line8 / 8, sigma8 / 8
    normal = NormalDist()
    distance = np.array([sigma * normal.inv_cdf((v + 0.5) / 256) for v in range(256)])  # from the edge, positive inside
    within = np.clip(line - distance + 0.5, 0, 1)
    beyond = np.clip(distance + 0.5, 0, 1)
    outline = np.clip(distance + 0.5 + max(1.0, line / 3), 0, 1)
    return tuple((table * 255 + 0.5).astype(np.uint8) for table in (within, beyond, outline))  # type: ignore[return-value]
