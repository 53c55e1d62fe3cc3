"""NMI: what clusters tell of the classes, normalised mutual information (Manning 2008, Introduction to Information Retrieval, section 16.3)."""

from __future__ import annotations

import numpy as np

from cvtool.metrics.entropy import entropy

KIND = "embeddings"
ALIASES = ("normalized-mutual-information",)
KEYS = {"NMI": "mutual information of the classes and as many k-means clusters, over the mean of their entropies"}


def nmi(table: np.ndarray) -> float:
    """A contingency table of weights, classes x clusters -> I / ((H_1 + H_2) / 2) in [0, 1]; 1 where both are one only, nan for an empty table."""
    total = table.sum()
    if not total > 0:
        return float("nan")
    p = table / total
    rows, columns = entropy(p.sum(1)), entropy(p.sum(0))
    both = rows + columns
    return float(np.clip(2 * (both - entropy(p.ravel())) / both, 0, 1)) if both > 0 else 1.0


def table(classes: np.ndarray, clusters: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Whole numbers N and N, and how often each counts -> the contingency table."""
    found = np.zeros((int(classes.max(initial=0)) + 1, int(clusters.max(initial=0)) + 1))
    np.add.at(found, (classes, clusters), 1.0 if weights is None else weights)
    return found
