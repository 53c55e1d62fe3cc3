"""By how much a page is turned, and the page turned back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from cvtool.ops.ink import Pieces

MOST = 20.0  # degrees to either side that are looked for
LEAST = 0.25  # degrees: less moves the ends of a column by a pixel or two
SAMPLE = 4000  # pieces that are enough to tell


def skew(pieces: Pieces, size: float) -> float:
    """Degrees by which the lines of a page fall to the right (rise: negative); 0 where there is too little to tell.

    The lower ends of letters on a line fall into few rows only when the page is turned the right way: the sum of the squared counts of rows is
    largest there (Postl 1986's criterion on the points of Baird 1987). size: the usual height of a letter.
    """
    like = (pieces.heights > 0.6 * size) & (pieces.heights < 2.2 * size) & (pieces.widths < 4 * size)
    boxes = pieces.boxes[like].astype(float)
    if len(boxes) < 12:
        return 0.0
    if len(boxes) > SAMPLE:
        boxes = boxes[:: -(-len(boxes) // SAMPLE)]
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]

    def sharpness(degrees: float) -> float:
        radians = np.deg2rad(degrees)
        rows = (y * np.cos(radians) - x * np.sin(radians)) / (0.2 * size)
        rows -= rows.min()
        low = np.floor(rows).astype(int)
        part = rows - low
        counts = np.bincount(low, 1 - part, low.max() + 2) + np.bincount(low + 1, part, low.max() + 2)
        return float((counts**2).sum())

    best, step = 0.0, 1.0
    found = max(np.arange(-MOST, MOST + step / 2, step).tolist(), key=lambda d: sharpness(d) - 1e-6 * abs(d))
    if sharpness(found) > 1.02 * sharpness(0.0):
        best = found
    for step in (0.25, 0.05):
        best = max((best + step * np.arange(-5, 6)).tolist(), key=lambda d: sharpness(d) - 1e-6 * abs(d))
    return best if LEAST <= abs(best) < MOST and sharpness(best) > 1.02 * sharpness(0.0) else 0.0


@dataclass(frozen=True)
class Turned:
    """A picture that was turned. back: 2 3, the affine map from its pixels to those of the picture before."""

    pixels: np.ndarray
    back: np.ndarray

    def restored(self, quads: np.ndarray) -> np.ndarray:
        """... 2 points in these pixels -> the same points before."""
        return quads @ self.back[:, :2].T + self.back[:, 2]


def unturned(pixels: np.ndarray) -> Turned:
    return Turned(pixels, np.array([[1.0, 0, 0], [0, 1, 0]]))


def quarter(turned: Turned, quarters: int) -> Turned:
    """Turned on, against the clock, by quarters."""
    height, width = turned.pixels.shape[:2]
    back = np.array([
        [[1.0, 0, 0], [0, 1, 0]],
        [[0, -1, width], [1, 0, 0]],
        [[-1, 0, width], [0, -1, height]],
        [[0, 1, 0], [-1, 0, height]],
    ])[quarters % 4]  # fmt: skip
    return Turned(np.ascontiguousarray(np.rot90(turned.pixels, quarters)), _after(back, turned.back))


def straightened(turned: Turned, degrees: float) -> Turned:
    """Turned on so that lines which fall by so many degrees are level; what comes in from outside is as bright as the rim."""
    if not degrees:
        return turned
    pixels = turned.pixels
    height, width = pixels.shape[:2]
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    wide, high = (round(abs(a * cosine) + abs(b * sine)) for a, b in ((width, height), (height, width)))
    turn = np.array([[cosine, -sine], [sine, cosine]])  # from the level page to this one
    shift = np.array([width / 2, height / 2]) - turn @ [wide / 2, high / 2]
    back = np.concatenate([turn, shift[:, None]], 1)
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    fill = tuple(int(v) for v in np.median(rim, axis=0))
    image = Image.fromarray(pixels).transform((wide, high), Image.Transform.AFFINE, back.ravel().tolist(), Image.Resampling.BICUBIC, fillcolor=fill)
    return Turned(np.asarray(image), _after(back, turned.back))


def _after(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """The affine map `then(first(x))`, 2 3 each."""
    return np.concatenate([then[:, :2] @ first[:, :2], (then[:, :2] @ first[:, 2] + then[:, 2])[:, None]], 1)
