"""The trigonometric code of a position (Vaswani 2017, arXiv:1706.03762, section 3.5). NumPy only: figures draw the same numbers as models add."""

from __future__ import annotations

import numpy as np


def sinusoid(length: int, channels: int, *, base: float = 10_000.0) -> np.ndarray:
    """length channels float64: pe[p, 2i] = sin(p / base^(2i/d)), pe[p, 2i+1] = cos of the same; pe[0] = (0, 1, 0, 1, ...).

    The product of two rows depends on their distance alone (for an even d): sum over i of cos((p - q) / base^(2i/d)).
    """
    even = np.arange(0, channels, 2)
    angle = np.arange(length)[:, None] / base ** (even[None, :] / channels)  # length ceil(d/2)
    out = np.zeros((length, channels))
    out[:, 0::2] = np.sin(angle)
    out[:, 1::2] = np.cos(angle[:, : channels // 2])
    return out
