"""Delta: the share of pixels whose depth is right up to a factor of 1.25, its square or its cube (Eigen 2014, arXiv:1406.2283, section 4)."""

from __future__ import annotations

import numpy as np

KIND = "depth"
ALIASES = ("delta1", "threshold-accuracy")
KEYS = {
    "delta1": "pixels with max(d / d*, d* / d) < 1.25, mean over the pictures",
    "delta2": "the same below 1.25^2",
    "delta3": "the same below 1.25^3",
}


def compute(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """The depths of one picture's valid pixels, N and N, above 0 -> three shares in [0, 1]."""
    factor = np.maximum(found / true, true / found)
    return {f"delta{power}": float((factor < 1.25**power).mean()) for power in (1, 2, 3)}
