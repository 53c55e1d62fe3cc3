"""Inversion: distortion, perceptual quality and editability of pictures put into a latent space (Tov 2021, arXiv:2102.02766, section 3)."""

from __future__ import annotations

import numpy as np

KIND = "inversions"
ALIASES = ("inversion-eval",)
KEYS = {
    "distortion": "mean squared difference of the inverted picture from its original, pixels in [0, 1]",
    "perceptual": "Frechet distance between the features of the inverted pictures and the originals': realism without a partner",
    "editability": "distance of a code from itself after an edit, inversion of what it shows, and the edit back (LEC)",
    "code_variance": "variance between the codes of one picture, 0 in W and W_*",
    "distance_to_W": "how far the codes lie from the mapping's own, in deviations of those",
}
LOWER = ("distortion", "perceptual", "editability", "code_variance", "distance_to_W")


def distortion(true: np.ndarray, found: np.ndarray) -> float:
    """E[(x - G(w))^2] of two H W 3 uint8 pictures, in units where white is 1."""
    return float(np.square((true.astype(np.float64) - found.astype(np.float64)) / 255).mean())


def variance(codes: np.ndarray) -> np.ndarray:
    """Codes N L D (L = 18 at 1024 pixels) -> N: the mean over the D numbers of their variance over the L codes. 0 for one code, repeated (W, W_*)."""
    return codes.astype(np.float64).var(1).mean(-1)


def consistency(codes: np.ndarray, returned: np.ndarray) -> np.ndarray:
    """Latent editing consistency: ||w - e^-1(E(G(e(w))))||^2 over the numbers of a code, N L D twice -> N (section 5.2)."""
    return np.square(codes.astype(np.float64) - returned).mean((1, 2))


class Range:
    """Where the mapping's own codes w = f(z) lie: their mean and covariance, from M D samples. Raises ValueError for fewer than two."""

    def __init__(self, samples: np.ndarray) -> None:
        x = np.asarray(samples, np.float64)
        if x.ndim != 2 or len(x) < 2:
            raise ValueError("the range of the mapping is told by two codes of it at least, M D")
        self.mean = x.mean(0)
        values, self.axes = np.linalg.eigh(np.cov(x.T).reshape(x.shape[1], -1))
        self.scale = np.sqrt(np.maximum(values, max(1e-12, 1e-6 * float(values.max()))))

    def distance(self, codes: np.ndarray) -> np.ndarray:
        """Codes N L D -> N: the Mahalanobis distance over sqrt(D), mean over the L; about 1 for codes of W itself."""
        moved = (codes.astype(np.float64) - self.mean) @ self.axes / self.scale
        return np.sqrt(np.square(moved).mean(-1)).mean(-1)


def space(codes: np.ndarray, inside: np.ndarray, *, limit: float = 2.0) -> str:
    """The name of the space that codes N L D are in: W or W^k where they are near the mapping's own (`inside`: their distances N), else W_* or
    W_*^k; with a k where the codes of a picture differ."""
    many = bool((variance(codes) > 1e-10).any())
    near = bool(np.median(inside) <= limit)
    return ("W" if near else "W_*") + ("^k" if many else "")
