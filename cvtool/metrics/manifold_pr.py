"""Manifold precision and recall: are made pictures among the real ones, and the real among the made? (Kynkaanniemi 2019, arXiv:1904.06991)."""

from __future__ import annotations

import numpy as np

KIND = "sets"
ALIASES = ("pr", "improved-precision-recall")
KEYS = {
    "manifold_precision": "made pictures that lie in the manifold of the real ones",
    "manifold_recall": "real pictures that lie in the manifold of the made ones",
    "manifold_f1": "harmonic mean of both",
}
ROWS = 1024


def radii(points: np.ndarray, k: int) -> np.ndarray:
    """N D -> N: from each to its k-th nearest other one. Raises ValueError for k or fewer others."""
    if not 1 <= k < len(points):
        raise ValueError(f"of {len(points)} points none has a neighbour number {k}")
    found = []
    for start in range(0, len(points), ROWS):
        far = squares(points[start : start + ROWS], points)
        far[np.arange(len(far)), start + np.arange(len(far))] = -1.0  # itself comes first, whatever rounding says
        found.append(np.partition(far, k, axis=1)[:, k])
    return np.sqrt(np.concatenate(found))


def squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """N D and M D -> N M squared distances, never below 0."""
    return np.maximum((a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1), 0)


def inside(points: np.ndarray, centres: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """N D points, M D centres with radii M -> N bool: within the sphere around any of them (eq. 1)."""
    parts = [(squares(points[i : i + ROWS], centres) <= reach**2 * (1 + 1e-12)).any(1) for i in range(0, len(points), ROWS)]
    return np.concatenate(parts)


def membership(true: np.ndarray, found: np.ndarray, *, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """(of each made picture whether it is within the real manifold, of each real one whether it is within the made)."""
    true, found = (np.asarray(one, np.float64) for one in (true, found))
    return inside(found, true, radii(true, k)), inside(true, found, radii(found, k))


def compute(true: np.ndarray, found: np.ndarray, *, k: int = 3) -> dict[str, float]:
    """N D real and M D made features; k: which neighbour says how far a sphere reaches (the paper's 3) -> shares in [0, 1] (eq. 2)."""
    precision, recall = (float(one.mean()) for one in membership(true, found, k=k))
    both = precision + recall
    return {"manifold_precision": precision, "manifold_recall": recall, "manifold_f1": 2 * precision * recall / both if both else 0.0}
