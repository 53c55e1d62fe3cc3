"""RMSE of logarithms: depth errors as factors, and the same with the scale left free (Eigen 2014, arXiv:1406.2283, eq. 1 and section 4)."""

from __future__ import annotations

import numpy as np

KIND = "depth"
ALIASES = ("silog",)
KEYS = {
    "RMSE_log": "root of the mean squared difference of natural logarithms, mean over the pictures",
    "RMSE_log_scale_invariant": "the same with the best common factor for each picture",
}
LOWER = ("RMSE_log", "RMSE_log_scale_invariant")


def compute(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """The depths of one picture's valid pixels, N and N, above 0 -> both keys. The second is the deviation of the log ratios."""
    ratio = np.log(found) - np.log(true)
    return {"RMSE_log": float(np.sqrt(np.square(ratio).mean())), "RMSE_log_scale_invariant": float(ratio.std())}
