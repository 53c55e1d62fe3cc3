"""How well classes can be read off embeddings: by the nearest neighbour, and by a linear map."""

from __future__ import annotations

import numpy as np

BLOCK = 1024  # rows at a time
RIDGE = 1.0  # of features of deviation 1


def probed(vectors: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """N D, N -> `knn_accuracy`, the share whose nearest other vector is of its class; `probe_accuracy`, see `linear`. Fractions; {} of one class."""
    if len(np.unique(labels)) < 2:
        return {}
    return {"knn_accuracy": nearest(vectors, labels), "probe_accuracy": linear(vectors, labels)}


def nearest(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Leave-one-out accuracy of the nearest neighbour, by Euclidean distance."""
    points = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    lengths = np.square(points).sum(1)
    right = 0
    for begin in range(0, len(points), BLOCK):
        rows = slice(begin, begin + BLOCK)
        far = lengths[rows, None] - 2 * points[rows] @ points.T + lengths
        far[np.arange(len(far)), np.arange(begin, begin + len(far))] = np.inf
        right += int((labels[far.argmin(1)] == labels[rows]).sum())
    return right / len(points)


def linear(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of a linear map to the classes, fitted by ridge regression on every other picture of each class, asked of the rest; and back."""
    place = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        place[own] = np.arange(len(own)) % 2
    right = 0
    for half in (0, 1):
        learned, asked = place == half, place != half
        if not learned.any() or not asked.any():
            continue
        mean, spread = vectors[learned].mean(0), vectors[learned].std(0) + 1e-6
        x, y = (vectors[learned] - mean) / spread, labels[learned][:, None] == np.unique(labels)
        x = np.hstack([x, np.ones((len(x), 1))]).astype(np.float64)
        weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)
        told = np.hstack([(vectors[asked] - mean) / spread, np.ones((int(asked.sum()), 1))]) @ weights
        right += int((np.unique(labels)[told.argmax(1)] == labels[asked]).sum())
    return right / len(labels)
