"""k-means: centres and assignments in turn, by squared distance, or by 1 - IoU for the widths and heights of boxes (Lloyd 1982; Redmon 2016)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cvtool.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Clusters:
    """centres: K D. labels: N int64, which centre is nearest. inertia: the sum of distances after each round, never rising; the last one holds."""

    centres: np.ndarray
    labels: np.ndarray
    inertia: list[float]


def squared(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """N D, K D -> N K squared Euclidean distances."""
    origin = centres.mean(0)  # far from it the products below would have lost the digits that differ
    points, centres = points - origin, centres - origin
    found = (points**2).sum(1)[:, None] - 2 * points @ centres.T + (centres**2).sum(1)
    return np.maximum(found, 0)


def one_minus_iou(sizes: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """N 2, K 2 widths and heights -> N K of 1 - IoU, the boxes laid with one corner on each other (Redmon 2016, arXiv:1612.08242, section 2)."""
    overlap = np.minimum(sizes[:, None], centres[None]).prod(-1)
    return 1 - overlap / (sizes.prod(1)[:, None] + centres.prod(1) - overlap)


DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"l2": squared, "iou": one_minus_iou}


def kmeans(points: np.ndarray, k: int, *, distance: str = "l2", seed: int = 0, rounds: int = 300) -> Clusters:
    """`k` clusters of `points` (N D); for the distance "iou" these are positive widths and heights (N 2).

    The first centres are drawn far apart (k-means++, Arthur 2007). A centre becomes the mean of its points where that brings them nearer in all,
    which for squared distance it always does; an empty one moves to the point farthest from its own. Ends when nothing changes.
    Raises UsageError for more clusters than points, points that are not finite, or an unknown distance.
    """
    if distance not in DISTANCES:
        raise UsageError(f"unknown distance '{distance}'", hint=did_you_mean(distance, DISTANCES) or "distances: " + ", ".join(DISTANCES))
    points = np.asarray(points, np.float64)
    if not 1 <= k <= len(points):
        raise UsageError(f"{k} clusters of {len(points)} points cannot be", hint="at least one, and at most as many as there are points")
    if not np.isfinite(points).all():
        raise UsageError("points that are not finite cannot be clustered")
    between, rng = DISTANCES[distance], np.random.default_rng(seed)
    centres = _spread(points, k, between, rng)
    inertia: list[float] = []
    labels = np.zeros(len(points), np.int64)
    for _ in range(rounds):
        far = between(points, centres)
        new = far.argmin(1)
        inertia.append(float(far[np.arange(len(points)), new].sum()))
        if len(inertia) > 1 and (new == labels).all():
            break
        labels = new
        centres = _moved(points, centres, labels, far, between)
    return Clusters(centres, labels, inertia)


def _spread(points: np.ndarray, k: int, between: Callable[[np.ndarray, np.ndarray], np.ndarray], rng: np.random.Generator) -> np.ndarray:
    centres = points[rng.integers(len(points))][None]
    nearest = between(points, centres)[:, 0]
    while len(centres) < k:
        total = nearest.sum()
        chosen = rng.choice(len(points), p=nearest / total) if total > 0 else rng.integers(len(points))
        centres = np.concatenate([centres, points[chosen][None]])
        nearest = np.minimum(nearest, between(points, centres[-1:])[:, 0])
    return centres


def _moved(
    points: np.ndarray, centres: np.ndarray, labels: np.ndarray, far: np.ndarray, between: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Centres at the means of their points; where the mean is worse (it can be for 1 - IoU), the centre stays."""
    centres = centres.copy()
    own = far[np.arange(len(points)), labels].copy()
    for c in range(len(centres)):
        mine = labels == c
        if not mine.any():
            worst = int(own.argmax())
            centres[c], own[worst] = points[worst], -1
            continue
        mean = points[mine].mean(0)
        if between(points[mine], mean[None]).sum() <= far[mine, c].sum():
            centres[c] = mean
    return centres
