"""SSIM: structural similarity of a picture to the true one, in [-1, 1] (Wang 2004, doi:10.1109/TIP.2003.819861)."""

from __future__ import annotations

import numpy as np

from cvtool.errors import InputError
from cvtool.metrics.psnr import seen

KIND = "pictures"
ALIASES: tuple[str, ...] = ()
KEYS = {"SSIM": "structural similarity, mean over the pictures"}
WINDOW = 11


def ssim(true: np.ndarray, found: np.ndarray, *, peak: float = 255.0) -> float:
    """H W or H W C, at least 11 x 11: Wang's settings, a Gaussian window of deviation 1.5 and 11 pixels, K1 = 0.01, K2 = 0.03, population moments;
    a mean over the channels. It is scikit-image's. Raises InputError for smaller pictures."""
    if min(true.shape[:2]) < WINDOW:
        raise InputError(f"SSIM looks through a window of {WINDOW} x {WINDOW} pixels, and {true.shape[1]} x {true.shape[0]} is smaller")
    from skimage.metrics import structural_similarity

    axis = 2 if true.ndim == 3 else None
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(true, found, data_range=peak, channel_axis=axis, **options))


def compute(true: np.ndarray, found: np.ndarray, *, y: bool = False, border: int = 0) -> dict[str, float]:
    """Two H W 3 uint8 pictures -> `SSIM`; options as for PSNR."""
    return {"SSIM": ssim(seen(true, y, border), seen(found, y, border))}
