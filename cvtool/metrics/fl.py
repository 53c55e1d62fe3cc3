"""Fl: outliers of optical flow, more than 3 pixels and more than 5 % off (Menze 2015, doi:10.1109/CVPR.2015.7298925; KITTI)."""

from __future__ import annotations

import numpy as np

from cvtool.metrics.epe import distances

KIND = "flow"
ALIASES = ("fl-all",)
KEYS = {"Fl": "pixels that are off by more than 3 pixels and by more than 5 % of the true motion"}
LOWER = ("Fl",)


def sums(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """The motions of one picture's valid pixels, N 2 and N 2 -> how many are outliers."""
    far = distances(true, found)
    return {"Fl": float(((far > 3) & (far > 0.05 * np.hypot(*true.T))).sum())}
