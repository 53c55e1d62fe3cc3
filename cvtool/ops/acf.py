"""Aggregate channel features: sums of gradients by direction, and of grey, over cells of 4 x 4 pixels; boosted stumps read windows of them.

Dollar 2014 (doi:10.1109/TPAMI.2014.2300479), with the eight channels that Jaderberg 2014 (arXiv:1412.1842, section 4.1) takes for words: strength of
the gradient over that of its surroundings, six directions, and grey.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from cvtool.ops.adaboost import Stumps

CELL = 4
DIRECTIONS = 6
CHANNELS = DIRECTIONS + 2
EARLY = 16  # stumps that are asked everywhere
SCALE = 0.75  # of successive sizes
ASPECTS = (0.5, 1.0, 2.0)  # by which windows are wider than the trained one


def channels(grey: np.ndarray) -> np.ndarray:
    """N H W in [0, 1] (float32) -> N H/4 W/4 8. What is left over at the right and the bottom is not looked at."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(grey, (0, 0.7, 0.7))
    dy, dx = np.gradient(smooth, axis=(1, 2))
    strength = np.hypot(dx, dy)
    strength = strength / (ndimage.uniform_filter(strength, (0, 11, 11)) + 0.01)
    turn = (np.arctan2(dy, dx) % np.pi) * DIRECTIONS / np.pi
    low = np.floor(turn).astype(int) % DIRECTIONS
    high, part = (low + 1) % DIRECTIONS, turn - np.floor(turn)
    maps = [strength, *(strength * ((low == k) * (1 - part) + (high == k) * part) for k in range(DIRECTIONS)), smooth]
    rows, columns = grey.shape[1] // CELL, grey.shape[2] // CELL
    stacked = np.stack(maps, -1)[:, : rows * CELL, : columns * CELL].astype(np.float32)
    cells = stacked.reshape(len(grey), rows, CELL, columns, CELL, CHANNELS).mean((2, 4))
    return ndimage.gaussian_filter(cells, (0, 0.5, 0.5, 0))


def crops(grey: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What N boxes (xyxy) show of H W uint8, each stretched to `size` (h, w): N h w float32 in [0, 1]."""
    image = Image.fromarray(grey)
    height, width = grey.shape
    out = np.zeros((len(boxes), *size), np.float32)
    for i, (x0, y0, x1, y1) in enumerate(np.asarray(boxes, np.float64)):
        x0, y0 = min(max(x0, 0.0), width - 1.0), min(max(y0, 0.0), height - 1.0)
        box = (x0, y0, min(max(x1, x0 + 1.0), width), min(max(y1, y0 + 1.0), height))
        out[i] = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, box=box))
    return out / 255


def features(grey: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """N boxes -> N h/4 * w/4 * 8: the channels of each, stretched to `size` (h, w)."""
    if not len(boxes):
        return np.zeros((0, size[0] // CELL * (size[1] // CELL) * CHANNELS), np.float32)
    return channels(crops(grey, boxes, size)).reshape(len(boxes), -1)


def sizes(height: int, width: int, window: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """(rows, columns) to which a picture is stretched, so that the window fits words of every size from its own up and some other shapes."""
    scale = 1.0
    while height * scale >= window[0]:
        for aspect in ASPECTS:
            if width * scale / aspect >= window[1]:
                yield round(height * scale), round(width * scale / aspect)
        scale *= SCALE


def detect(grey: np.ndarray, stumps: Stumps, window: tuple[int, int], *, count: int = 1000, least: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """H W uint8 -> at most `count` windows, N 4 xyxy, whose share of the votes (in [-1, 1], N) is above `least`, best first.

    A window against which most of the first stumps' votes are cast is not asked the others: most are none, and soon known to be.
    """
    height, width = grey.shape
    rows, columns = window[0] // CELL, window[1] // CELL
    cell, channel = np.divmod(stumps.feature, CHANNELS)
    row, column = np.divmod(cell, columns)
    total = max(1e-9, float(np.abs(stumps.vote).sum()))
    asked = list(zip(row, column, channel, stumps.threshold, stumps.polarity, stumps.vote, strict=True))
    boxes, scores = [np.zeros((0, 4))], [np.zeros(0)]
    image = Image.fromarray(grey)
    for high, wide in sizes(height, width, window):
        stretched = np.asarray(image.resize((wide, high), Image.Resampling.BILINEAR), np.float32) / 255
        maps = channels(stretched[None])[0]
        down, across = maps.shape[0] - rows + 1, maps.shape[1] - columns + 1
        if down < 1 or across < 1:
            continue
        early = np.zeros((down, across))
        for r, c, k, threshold, polarity, vote in asked[:EARLY]:
            early += np.where(polarity * (maps[r : r + down, c : c + across, k] - threshold) >= 0, vote, -vote)
        y, x = np.nonzero(early >= 0)
        votes = early[y, x]
        for r, c, k, threshold, polarity, vote in asked[EARLY:]:
            votes += np.where(polarity * (maps[y + r, x + c, k] - threshold) >= 0, vote, -vote)
        kept = votes > least * total
        y, x = y[kept], x[kept]
        corners = np.stack([x, y, x + columns, y + rows], 1) * CELL
        boxes.append(corners * np.array([width / wide, height / high] * 2))
        scores.append(votes[kept] / total)
    found, values = np.concatenate(boxes), np.concatenate(scores)
    order = np.argsort(-values, kind="stable")[:count]
    return found[order], values[order]
