"""Unpooling: max-pooling remembers where each maximum lay, and unpooling puts it back there, with zeros around.

Zeiler 2013 (arXiv:1311.2901), section 2.1, and DeconvNet (arXiv:1505.04366). Shown on the strength of a picture's edges.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from cvtool.errors import UsageError
from cvtool.ops.kernels import filtered
from cvtool.render.figures._heat import cells, fitted, gray, heat
from cvtool.render.figures._page import Panel, page, positive
from cvtool.render.palette import Colour

OPTIONS = {"window": {"default": 4, "metavar": "N", "help": "cells a side that one maximum is taken of"}}
MAP, ZOOM = 220, 2  # cells of the map's longer edge, pixels a cell


def switches(values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """H W -> the maxima of its window x window cells (what is over is left out), and their places, row-major in H x W; of equals the first."""
    rows, columns = values.shape[0] // window, values.shape[1] // window
    blocks = values[: rows * window, : columns * window].reshape(rows, window, columns, window).transpose(0, 2, 1, 3).reshape(rows, columns, -1)
    best = blocks.argmax(-1)
    y = np.arange(rows)[:, None] * window + best // window
    x = np.arange(columns)[None, :] * window + best % window
    return blocks.max(-1), y * values.shape[1] + x


def unpooled(values: np.ndarray, places: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The maxima at their places in a map of `shape`, zeros elsewhere."""
    out = np.zeros(shape)
    out.ravel()[places.ravel()] = values.ravel()
    return out


def figure(picture: np.ndarray, *, window: int) -> Image.Image:
    """The map, what pooling leaves, and what comes back with switches and without."""
    positive(window, "window", 32)
    edges = filtered(gray(fitted(picture, MAP)), "sobel")
    if min(edges.shape) < window:
        raise UsageError(f"--window {window}: the map has {edges.shape[1]} x {edges.shape[0]} cells")
    low, places = switches(edges, window)
    back = unpooled(low, places, edges.shape)
    repeated = np.repeat(np.repeat(low, window, 0), window, 1)
    top = float(edges.max())
    kept = low.size / edges.size

    def panel(values: np.ndarray, title: str, *lines: str, zoom: int = ZOOM) -> Panel:
        told: list[tuple[str, Colour | None]] = [(line, None) for line in lines]
        return Panel(cells(heat(values, 0, top), zoom * values.shape[1]), title, told)

    size = f"{edges.shape[1]} x {edges.shape[0]}"
    return page(
        "Unpooling with switches",
        f"windows of {window} x {window}: one value of {window * window} stays ({kept:.1%}), and its place",
        [
            panel(edges, "a map", f"{size} cells: the edges' strength"),
            panel(low, "max-pooled", f"{low.shape[1]} x {low.shape[0]} maxima", "and as many switches", zoom=ZOOM * window),
            panel(back, "unpooled", "each at the place it came from", "pooled again it is the same"),
            panel(repeated, "repeated", "without switches: right values,", "wrong places"),
        ],
    )
