"""GMSD: a perceptual distance without a network, the deviation of gradient similarities, 0 for equal pictures (Xue 2014, arXiv:1308.3052)."""

from __future__ import annotations

import numpy as np

from cvtool.metrics.psnr import cropped, luma

KIND = "pictures"
ALIASES: tuple[str, ...] = ()
KEYS = {"GMSD": "gradient magnitude similarity deviation, a perceptual distance; mean over the pictures"}
LOWER = ("GMSD",)
C = 170.0


def gradient(y: np.ndarray) -> np.ndarray:
    """H W -> H W: the magnitude of the Prewitt gradients (eq. 1-3), with zeros beyond the edge."""
    padded = np.pad(y, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]  # sums of three over the rows, then the difference over the columns
    columns = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return np.hypot((rows[:, :-2] - rows[:, 2:]) / 3, (columns[:-2] - columns[2:]) / 3)


def halved(y: np.ndarray) -> np.ndarray:
    """H W -> the averages of its 2 x 2 squares: pictures are looked at from a distance (section II-D)."""
    height, width = (side - side % 2 for side in y.shape)
    return y[:height, :width].reshape(height // 2, 2, width // 2, 2).mean((1, 3)) if min(height, width) else y


def compute(true: np.ndarray, found: np.ndarray, *, border: int = 0) -> dict[str, float]:
    """Two H W 3 uint8 pictures -> `GMSD`: the standard deviation over the pixels of (2 m_r m_d + c) / (m_r^2 + m_d^2 + c), c = 170 (eq. 4-6)."""
    m, n = (gradient(halved(luma(cropped(one, border)))) for one in (true, found))
    return {"GMSD": float(((2 * m * n + C) / (m**2 + n**2 + C)).std())}
