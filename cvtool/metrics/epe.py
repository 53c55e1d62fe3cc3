"""EPE: end-point error of optical flow, in pixels (Baker 2011, doi:10.1007/s11263-010-0390-2)."""

from __future__ import annotations

import numpy as np

KIND = "flow"
ALIASES = ("end-point-error", "endpoint-error")
KEYS = {
    "EPE": "distance between found and true motion in pixels, mean over all pixels with a truth",
    "EPE_1px": "pixels that are more than 1 pixel off",
    "EPE_3px": "pixels that are more than 3 pixels off",
    "EPE_5px": "pixels that are more than 5 pixels off",
}
LOWER = ("EPE", "EPE_1px", "EPE_3px", "EPE_5px")


def distances(true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """N 2 and N 2 motions -> N pixels."""
    return np.hypot(*(found - true).T)


def sums(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """The motions of one picture's valid pixels, N 2 and N 2 -> each key's sum over them; divided by all pixels' number it is the key's value."""
    far = distances(true, found)
    return {"EPE": float(far.sum())} | {f"EPE_{limit}px": float((far > limit).sum()) for limit in (1, 3, 5)}
