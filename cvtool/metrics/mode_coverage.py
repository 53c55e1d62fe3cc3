"""Mode coverage: which kinds a generator makes, and JS split into what is missing and what is too much (Goodfellow 2014, arXiv:1406.2661)."""

from __future__ import annotations

import numpy as np

from cvtool.metrics.kl import kl

KIND = "distributions"
ALIASES = ("mode-collapse",)
KEYS = {
    "modes_hit": "share of the real modes of which at least a tenth of what there should be is made",
    "coverage": "KL(real || mean of both) / 2: what is missing, in nats",
    "quality": "KL(made || mean of both) / 2: what is made too much, or should not be; both together are JS",
}
LOWER = ("coverage", "quality")
LEAST = 0.1  # of a mode's share


def split(real: np.ndarray, made: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(coverage, quality) of ... K shares each -> ..., in nats; their sum is JS(real || made)."""
    p, q = np.asarray(real, np.float64), np.asarray(made, np.float64)
    mean = (p + q) / 2
    return kl(p, mean) / 2, kl(q, mean) / 2


def hit(real: np.ndarray, made: np.ndarray, *, least: float = LEAST) -> np.ndarray:
    """... K shares each -> share of the modes, ...: those with at least `least` of their mass made."""
    p, q = np.asarray(real, np.float64), np.asarray(made, np.float64)
    modes = p > 0
    return (modes & (q >= least * p)).sum(-1) / np.maximum(modes.sum(-1), 1)


def compute(true: np.ndarray, found: np.ndarray, *, least: float = LEAST) -> dict[str, np.ndarray]:
    """N K shares of what is real and N K of what is made -> N values a key."""
    coverage, quality = split(true, found)
    return {"modes_hit": hit(true, found, least=least), "coverage": coverage, "quality": quality}


# ---- points in the plane, of which the modes are known -------------------------------------------------------------


def centres(layout: str, modes: int) -> np.ndarray:
    """modes 2: on a circle of radius 2 (`ring`), or on a square lattice of distance 2 around 0 (`grid`). Raises ValueError for another layout."""
    if layout == "ring":
        angles = 2 * np.pi * np.arange(modes) / modes
        return 2 * np.stack([np.cos(angles), np.sin(angles)], 1)
    if layout == "grid":
        side = int(np.ceil(np.sqrt(modes)))
        rows, columns = np.divmod(np.arange(modes), side)
        return 2.0 * np.stack([columns - (side - 1) / 2, rows - (side - 1) / 2], 1)
    raise ValueError(f"unknown layout {layout}")


def shares(points: np.ndarray, modes: np.ndarray, deviation: float) -> tuple[np.ndarray, float]:
    """N 2 points and K 2 centres of Gaussians -> (share of the points in each mode, and in none, K + 1; the high-quality share, within three
    deviations of a centre, as Srivastava 2017, arXiv:1705.07761, counts)."""
    far = np.linalg.norm(points[:, None] - modes[None], axis=2)  # N K
    good = far.min(1) <= 3 * deviation
    counts = np.bincount(np.where(good, far.argmin(1), len(modes)), minlength=len(modes) + 1)
    return counts / max(len(points), 1), float(good.mean())
