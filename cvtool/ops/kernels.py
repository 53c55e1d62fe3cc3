"""Fixed kernels by name: what a convolution can do before it learns anything. NumPy only; figures use them too."""

from __future__ import annotations

import numpy as np

from cvtool.errors import UsageError, did_you_mean

_SOBEL = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
_PREWITT = ((-1, 0, 1), (-1, 0, 1), (-1, 0, 1))
_SCHARR = ((-3, 0, 3), (-10, 0, 10), (-3, 0, 3))
_BINOMIAL = (1, 4, 6, 4, 1)

KERNELS: dict[str, np.ndarray] = {
    "identity": np.array(((0, 0, 0), (0, 1, 0), (0, 0, 0)), float),
    "box": np.full((3, 3), 1 / 9),
    "gaussian": np.outer(_BINOMIAL, _BINOMIAL) / 256,
    "sharpen": np.array(((0, -1, 0), (-1, 5, -1), (0, -1, 0)), float),
    "emboss": np.array(((-2, -1, 0), (-1, 1, 1), (0, 1, 2)), float),
    "laplacian": np.array(((0, 1, 0), (1, -4, 1), (0, 1, 0)), float),
    "sobel-x": np.array(_SOBEL, float),
    "sobel-y": np.array(_SOBEL, float).T,
    "prewitt-x": np.array(_PREWITT, float),
    "prewitt-y": np.array(_PREWITT, float).T,
    "scharr-x": np.array(_SCHARR, float),
    "scharr-y": np.array(_SCHARR, float).T,
}
MAGNITUDES = ("sobel", "prewitt", "scharr")  # of the two directions: sqrt(gx^2 + gy^2)


def kernel(name: str) -> np.ndarray:
    """k k float64, laid on the picture as it is printed (a correlation, as every network's convolution). Raises UsageError for another name."""
    if name not in KERNELS:
        known = [*KERNELS, *MAGNITUDES]
        raise UsageError(f"unknown kernel '{name}'", hint=did_you_mean(name, known) or "kernels: " + ", ".join(known))
    return KERNELS[name]


def filtered(picture: np.ndarray, name: str) -> np.ndarray:
    """H W (or H W C) -> the same shape float64, each channel with the kernel of that name, borders repeated; `sobel` is the gradient's length."""
    if name in MAGNITUDES:
        return np.hypot(filtered(picture, f"{name}-x"), filtered(picture, f"{name}-y"))
    weights = kernel(name)
    reach = len(weights) // 2
    padded = np.pad(picture.astype(float), ((reach, reach), (reach, reach)) + ((0, 0),) * (picture.ndim - 2), mode="edge")
    out = np.zeros(picture.shape)
    for (j, i), weight in np.ndenumerate(weights):
        if weight:
            out += weight * padded[j : j + picture.shape[0], i : i + picture.shape[1]]
    return out


def bilinear(size: int) -> np.ndarray:
    """size size float64: a transposed convolution with it interpolates linearly (Long 2015, arXiv:1411.4038, section 3.3).

    3 -> ((.25, .5, .25), (.5, 1, .5), (.25, .5, .25)), for a stride of 2.
    """
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    ramp = 1 - np.abs(np.arange(size) - centre) / factor
    return np.outer(ramp, ramp)
