"""PSNR: peak signal-to-noise ratio of a picture against the true one, in dB (Huynh-Thu 2008, doi:10.1049/el:20080522)."""

from __future__ import annotations

import numpy as np

from cvtool.errors import UsageError

KIND = "pictures"
ALIASES: tuple[str, ...] = ()
KEYS = {"PSNR": "peak signal-to-noise ratio in dB, mean over the pictures; equal ones are infinite"}


def psnr(true: np.ndarray, found: np.ndarray, *, peak: float = 255.0) -> float:
    """10 log10(peak^2 / MSE) in dB, over all pixels and channels: 48.1308 for an MSE of 1 at 8 bits, infinite for equal pictures."""
    error = float(np.square(true.astype(np.float64) - found.astype(np.float64)).mean())
    return 10 * np.log10(peak**2 / error) if error else float("inf")


def luma(pixels: np.ndarray) -> np.ndarray:
    """H W 3 of 0..255 -> H W, Y of BT.601 in studio range, 16..235, unrounded: the channel on which super-resolution is compared."""
    return 16 + pixels.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255


def cropped(pixels: np.ndarray, border: int) -> np.ndarray:
    """Without `border` pixels at each side. Raises UsageError where nothing would stay."""
    if not border:
        return pixels
    if border < 0 or 2 * border >= min(pixels.shape[:2]):
        raise UsageError(f"border={border} leaves nothing of {pixels.shape[1]} x {pixels.shape[0]} pixels")
    return pixels[border:-border, border:-border]


def seen(pixels: np.ndarray, y: bool, border: int) -> np.ndarray:
    """H W 3 uint8 -> what is compared: the crop, of it the Y channel where `y`."""
    pixels = cropped(pixels, border)
    return luma(pixels) if y else pixels


def compute(true: np.ndarray, found: np.ndarray, *, y: bool = False, border: int = 0) -> dict[str, float]:
    """Two H W 3 uint8 pictures -> `PSNR`. y: of the luma alone. border: pixels at each side that do not count (super-resolution: its factor)."""
    return {"PSNR": psnr(seen(true, y, border), seen(found, y, border))}
