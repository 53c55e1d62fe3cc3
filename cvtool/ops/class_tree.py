"""A tree of classes by the distances between them, and the margins that it gives triples of pictures (Ge 2018, arXiv:1810.06951, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def class_distances(vectors: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """K K: the mean of ||r_i - r_j||^2 over the pictures i of one class and j of another (eq. 1); on the diagonal over the pairs of a class.

    vectors: N D; labels: N, of which those below 0 belong to no class. NaN for a class without a picture, 0 within one of a single picture. Squared:
    vectors of length 1 are then at most 4 apart, as the levels of the tree take it. (One of two seed texts prints it without the square.)
    """
    means = np.full((classes, vectors.shape[1]), np.nan)
    squares, counts = np.full(classes, np.nan), np.zeros(classes)
    for label in np.unique(labels[labels >= 0]).tolist():
        own = vectors[labels == label].astype(np.float64)
        means[label], squares[label], counts[label] = own.mean(0), np.square(own).sum(1).mean(), len(own)
    found = squares[:, None] + squares - 2 * means @ means.T
    within = 2 * (squares - np.square(means).sum(1)) * np.divide(counts, counts - 1, out=np.ones(classes), where=counts > 1)
    np.fill_diagonal(found, within)
    return np.maximum(found, 0)


@dataclass(frozen=True)
class Tree:
    """levels: L + 1 thresholds d_l. meet: K K whole numbers, the lowest level at which two classes are in one node. within: K, s of each class."""

    levels: np.ndarray
    meet: np.ndarray
    within: np.ndarray

    @classmethod
    def of(cls, distances: np.ndarray, levels: int = 16) -> Tree:
        """d_l = l (4 - d_0) / L + d_0, with d_0 the mean distance within the classes (eq. 2 and 3). At level l nodes nearer than
        d_l are one; at L all."""
        from scipy.sparse.csgraph import connected_components

        known = np.flatnonzero(np.isfinite(np.diag(distances)))
        within = np.nan_to_num(np.diag(distances))
        floor = float(within[known].mean()) if len(known) else 0.0
        thresholds = np.arange(levels + 1) * (4 - floor) / levels + floor
        meet = np.full(distances.shape, levels)
        for level in range(levels - 1, -1, -1):
            near = np.nan_to_num(distances, nan=np.inf) < thresholds[level]
            node = connected_components(near, directed=False)[1]
            meet[node[:, None] == node] = level
        np.fill_diagonal(meet, 0)
        return cls(thresholds, meet, within)

    def nodes(self, level: int) -> list[list[int]]:
        """The classes of each node of a level."""
        first = (self.meet <= level).argmax(1)
        return [np.flatnonzero(first == node).tolist() for node in np.unique(first)]

    def margins(self, slack: float = 0.1) -> np.ndarray:
        """K K: alpha_z = beta + d_H(a, n) - s_a by the classes of anchor and negative, beta the slack (eq. 5)."""
        return slack + self.levels[self.meet] - self.within[:, None]
