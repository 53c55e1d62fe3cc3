"""AbsRel: the mean relative error of depths, |d - d*| / d* (Eigen 2014, arXiv:1406.2283, section 4)."""

from __future__ import annotations

import numpy as np

KIND = "depth"
ALIASES = ("absrel",)
KEYS = {"abs_rel": "relative error of a depth, mean over a picture's pixels and over the pictures", "sq_rel": "squared error over the depth"}
LOWER = ("abs_rel", "sq_rel")


def compute(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """The depths of one picture's valid pixels, N and N, above 0 -> `abs_rel` = mean |d - d*| / d*, `sq_rel` = mean (d - d*)^2 / d*."""
    error = np.abs(found - true)
    return {"abs_rel": float((error / true).mean()), "sq_rel": float((error**2 / true).mean())}
