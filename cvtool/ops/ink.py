"""Ink on paper: which pixels of a scan are print, and the connected pieces that they form. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

K = 0.2  # Sauvola's: how far under the mean of its surroundings ink lies where those are even
RANGE = 128.0  # Sauvola's: the deviation of surroundings that are half ink
BLACK = 0.35  # share of a picture's median brightness under which everything is ink
DARK = 0.5  # share of the brightness under which a picture's median is light print on a dark ground


def luminance(pixels: np.ndarray) -> np.ndarray:
    """H W 3 uint8 -> H W uint8, with the weights of Rec. 601."""
    return np.asarray(Image.fromarray(pixels).convert("L"))


def paper_is_light(gray: np.ndarray) -> bool:
    """Whether the print is darker than the ground, which there is more of."""
    return float(np.median(gray[:: max(1, gray.shape[0] // 512), :: max(1, gray.shape[1] // 512)])) >= 255 * DARK


def ink(gray: np.ndarray, *, window: int | None = None) -> np.ndarray:
    """H W uint8 -> H W bool: darker than its surroundings by Sauvola's rule, T = m (1 + k (s / R - 1)) with the mean m and the deviation s over
    `window` pixels around (Sauvola 2000, doi:10.1016/S0031-3203(99)00055-2); and what is black beside the whole picture, such as the inside of a dark
    area. A picture of two values needs no surroundings.

    window: default a fortieth of the picture's shorter side, 31 to 101 pixels.
    """
    low, high = int(gray.min()), int(gray.max())
    if high - low < 16:
        return np.zeros(gray.shape, bool)
    if not ((gray > low) & (gray < high)).any():
        return gray == low
    size = window or min(max(min(gray.shape) // 40, 31), 101)
    values = gray.astype(np.float32)
    mean = ndimage.uniform_filter(values, size, mode="reflect")
    square = ndimage.uniform_filter(values * values, size, mode="reflect")
    spread = np.sqrt(np.maximum(square - mean * mean, 0, out=square), out=square)
    most = min(RANGE, max(float(spread[::4, ::4].max()), 1.0))
    return (values < mean * (1 + K * (spread / most - 1))) | (gray < BLACK * np.median(gray[::4, ::4]))


@dataclass(frozen=True)
class Pieces:
    """Connected pieces of ink. boxes: N 4 int64, x0 y0 x1 y1 (ends not included); areas: N int64, pixels of ink."""

    boxes: np.ndarray
    areas: np.ndarray

    def __len__(self) -> int:
        return len(self.areas)

    def __getitem__(self, keep: np.ndarray) -> Pieces:
        return Pieces(self.boxes[keep], self.areas[keep])

    @property
    def widths(self) -> np.ndarray:
        return self.boxes[:, 2] - self.boxes[:, 0]

    @property
    def heights(self) -> np.ndarray:
        return self.boxes[:, 3] - self.boxes[:, 1]


def pieces(mask: np.ndarray, *, least: int = 1) -> Pieces:
    """H W bool -> its pieces of at least so many pixels, touching by sides or corners, in the order of their first pixels."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3), bool))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    found = ndimage.find_objects(labels)
    boxes = np.array([[s[1].start, s[0].start, s[1].stop, s[0].stop] for s in found], np.int64).reshape(-1, 4)
    keep = areas >= least
    return Pieces(boxes[keep], areas[keep])
