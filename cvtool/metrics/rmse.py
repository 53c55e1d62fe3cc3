"""RMSE: the root of a picture's mean squared error in depth, in metres (Eigen 2014, arXiv:1406.2283, section 4)."""

from __future__ import annotations

import numpy as np

KIND = "depth"
ALIASES: tuple[str, ...] = ()
KEYS = {"RMSE": "root of a picture's mean squared error, in the unit of the truth; mean over the pictures"}
LOWER = ("RMSE",)


def compute(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """The depths of one picture's valid pixels, N and N -> `RMSE`."""
    return {"RMSE": float(np.sqrt(np.square(found - true).mean()))}
