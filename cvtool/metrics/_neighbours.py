"""Nearest neighbours of embeddings, and whether they are of the query's class: what retrieval's metrics are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROWS = 512


@dataclass(frozen=True)
class Ranked:
    """hits: Q K bool, whether the i-th nearest is of the query's class. relevant: Q, how many of its class there are, itself aside."""

    hits: np.ndarray
    relevant: np.ndarray


def similarity(a: np.ndarray, b: np.ndarray, distance: str) -> np.ndarray:
    """N D and M D -> N M, larger for nearer: the cosine, or minus the squared Euclidean distance (l2)."""
    if distance == "cosine":
        return normalised(a) @ normalised(b).T
    return 2 * a @ b.T - (a**2).sum(1)[:, None] - (b**2).sum(1)


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def ranked(queries: np.ndarray, query_labels: np.ndarray, gallery: np.ndarray | None, labels: np.ndarray, depth: int, distance: str) -> Ranked:
    """The `depth` nearest of the gallery (None: the other queries) of each query, ties by place.

    queries: Q D, gallery: G D; labels: whole numbers, Q and G.
    """
    among = queries if gallery is None else gallery
    if distance == "cosine":  # once, not for every block
        queries = normalised(queries)
        among = queries if gallery is None else normalised(among)
    depth = min(depth, len(among) - (gallery is None))
    counts = np.bincount(labels, minlength=int(max(labels.max(initial=0), query_labels.max(initial=0))) + 1)
    relevant = counts[query_labels] - (gallery is None)
    hits = np.zeros((len(queries), depth), bool)
    for start in range(0, len(queries), ROWS):
        some = queries[start : start + ROWS]
        scores = some @ among.T if distance == "cosine" else similarity(some, among, distance)
        if gallery is None:
            scores[np.arange(len(scores)), start + np.arange(len(scores))] = -np.inf
        order = nearest(scores, depth)
        hits[start : start + ROWS] = labels[order] == query_labels[start : start + ROWS, None]
    return Ranked(hits, relevant)


def nearest(scores: np.ndarray, depth: int) -> np.ndarray:
    """N M -> N depth places of the largest, largest first, equal ones by place."""
    if depth * 4 >= scores.shape[1]:
        return np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    # one more than wanted tells whether a tie is cut, which then is broken by a full sort
    some = np.argpartition(-scores, depth, axis=1)[:, : depth + 1]
    some.sort(axis=1)
    order = np.take_along_axis(some, np.argsort(-np.take_along_axis(scores, some, 1), axis=1, kind="stable"), 1)
    picked = np.take_along_axis(scores, order, 1)
    if (tied := np.flatnonzero(picked[:, depth - 1] == picked[:, depth])).size:
        order[tied, :depth] = np.argsort(-scores[tied], axis=1, kind="stable")[:, :depth]
    return order[:, :depth]
