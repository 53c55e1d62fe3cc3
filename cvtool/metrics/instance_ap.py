"""Instances of label maps: the mean precision of the 2018 Data Science Bowl, F1 of objects, and average precision where instances have scores.

At an overlap t, right are the pairs of greatest overlap of at least t, one to one; the precision of a picture is right / (right + wrong + missed),
and its score the mean over t = 0.50, 0.55 ... 0.95; `mean_precision` is the mean over pictures (Caicedo 2019, doi:10.1038/s41592-019-0612-7; the
contest asked for more than t, which differs only where an overlap is t itself). A picture without objects in which nothing was found counts 1. F1_50
and matched_IoU are of all pictures' objects together. AP and AP50 are COCO's, and are measured where every instance found has a score.
"""

from __future__ import annotations

import numpy as np

from cvtool.metrics._matching import LEVELS, THRESHOLDS, match, mean
from cvtool.metrics._ranking import EPSILON, Ranking

KIND = "instances"
ALIASES = ("dsb", "mean-precision")
KEYS = {
    "mean_precision": "objects right of all on either side, overlap 0.50 to 0.95, mean over pictures",
    "precision_50": "the same at an overlap of 0.50 or more",
    "precision_75": "the same at an overlap of 0.75 or more",
    "F1_50": "F1 of all objects at an overlap of 0.50 or more",
    "matched_IoU": "overlap of the pairs at 0.50 or more, mean",
    "AP": "average precision, overlap 0.50 to 0.95, where instances have scores",
    "AP50": "average precision, overlap of 0.50 or more, where instances have scores",
}
T = len(THRESHOLDS)


def counts(overlaps: np.ndarray) -> np.ndarray:
    """3 T + 1 of one picture: right, wrong, missed at each threshold, and the sum of the pairs' overlaps at 0.50. overlaps: found true, in [0, 1].

    The pairs of greatest overlap are taken first. Above 0.5 an instance of a map can have one partner only, so the order matters at 0.5 itself.
    """
    found, true = overlaps.shape
    right, total = np.zeros(T), 0.0
    if found and true:
        free, open_ = np.ones(found, bool), np.ones(true, bool)
        for place in np.argsort(-overlaps, axis=None, kind="stable")[: int((overlaps >= THRESHOLDS[0]).sum())]:
            i, j = divmod(int(place), true)
            if free[i] and open_[j]:
                free[i] = open_[j] = False
                right += overlaps[i, j] >= THRESHOLDS
                total += overlaps[i, j]
    return np.concatenate([right, found - right, true - right, [total]])


def figures(counted: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
    """The metrics without scores of N pictures' counts, N 3T+1; nan where nothing is left. weights: how often each picture counts."""
    weights = np.ones(len(counted)) if weights is None else np.asarray(weights, float)
    each = precisions(counted)  # N T
    many = weights.sum()
    rows = weights @ each / many if many else np.full(T, np.nan)
    right, wrong, missed = (float(weights @ counted[:, i * T]) for i in range(3))
    every = 2 * right + wrong + missed
    return {
        "mean_precision": float(rows.mean()),
        "precision_50": float(rows[0]),
        "precision_75": float(rows[T // 2]),
        "F1_50": 2 * right / every if every else np.nan,
        "matched_IoU": float(weights @ counted[:, -1]) / right if right else np.nan,
    }


def precisions(counted: np.ndarray) -> np.ndarray:
    """N 3T+1 counts -> N T: right / (right + wrong + missed), 1 where there is nothing on either side."""
    right = counted[:, :T]
    every = counted[:, : 3 * T].reshape(-1, 3, T).sum(1)
    return np.divide(right, every, out=np.ones_like(right), where=every > 0)


def ranking(overlaps: list[np.ndarray], scores: list[np.ndarray]) -> Ranking:
    """COCO's ranking of N pictures of one class at all thresholds. overlaps: found true of each, scores: of what was found."""
    right, images = [], []
    values = np.concatenate([*scores, np.zeros(0)])
    for n, (each, score) in enumerate(zip(overlaps, scores, strict=True)):
        order = np.argsort(-score, kind="stable")
        hit = np.zeros((T, len(score)), bool)
        hit[:, order] = match(each[order], THRESHOLDS) >= 0
        right.append(hit)
        images.append(np.full(len(score), n))
    flags = np.concatenate([*right, np.zeros((T, 0), bool)], 1)
    owners = np.repeat(np.arange(len(overlaps)), [each.shape[1] for each in overlaps])
    image = np.concatenate([*images, np.zeros(0)]).astype(int)
    zeros, ones = np.zeros(len(values), int), np.ones((T, len(owners)), bool)
    return Ranking(len(overlaps), 1, values, image, zeros, flags, ~flags, owners, np.zeros(len(owners), int), ones)


def average(ranked: Ranking, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """`AP` and `AP50`, B values each."""
    precision = ranked.areas(weights, levels=LEVELS, epsilon=EPSILON)[0][:, :, 0]  # B T
    return {"AP": mean(precision), "AP50": precision[:, 0]}
