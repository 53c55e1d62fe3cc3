"""Which detection finds which object: COCO's greedy rule at several thresholds at once, and average precision by COCO's protocol of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cvtool.metrics._overlaps import Table
from cvtool.metrics._ranking import EPSILON, Ranking

THRESHOLDS = np.linspace(0.5, 0.95, 10)
LEVELS = np.linspace(0.0, 1.0, 101)
AREAS = {"all": (0.0, 1e10), "small": (0.0, 1024.0), "medium": (1024.0, 9216.0), "large": (9216.0, 1e10)}


def match(overlaps: np.ndarray, thresholds: np.ndarray, ignored: np.ndarray | None = None, crowd: np.ndarray | None = None) -> np.ndarray:
    """T d: the object that each detection finds at each threshold, -1 for none.

    overlaps: d g, detections by falling score. Each takes the free object that it overlaps best, with at least the threshold; of equal ones the last;
    objects that are `ignored` (g) only where no other fits. A `crowd` (g) stays free.
    """
    d, g = overlaps.shape
    matched = np.full((len(thresholds), d), -1)
    limits = np.minimum(thresholds, 1 - 1e-10)[:, None]  # T 1
    if not (d and g):
        return matched
    regular = np.ones(g, bool) if ignored is None else ~ignored
    always = np.zeros(g, bool) if crowd is None else crowd
    free = np.ones((len(thresholds), g), bool)
    for i in np.flatnonzero(overlaps.max(1) >= limits.min()):
        fits = (free | always) & (overlaps[i] >= limits)  # T g
        first = fits & regular
        fits = np.where(first.any(1, keepdims=True), first, fits)
        best = g - 1 - np.where(fits, overlaps[i], -1.0)[:, ::-1].argmax(1)
        hit = np.flatnonzero(fits.any(1))
        matched[hit, i] = best[hit]
        free[hit, best[hit]] = False
    return matched


def coco_like(
    table: Table,
    *,
    areas: Mapping[str, tuple[float, float]] = AREAS,
    thresholds: np.ndarray = THRESHOLDS,
    crowds: bool = True,
    limit: int | None = 100,
    kept: np.ndarray | None = None,
    lenient: np.ndarray | None = None,
) -> Ranking:
    """The ranking whose conditions are area by area the thresholds.

    crowds: objects marked so are ignored, and overlaps with them are over the detection's area. limit: detections counted an image and class.
    kept (D): the other detections do not exist. lenient (D): wrong ones are ignored.
    """
    gt, dt = table.gt, table.dt
    right = np.zeros((len(areas), len(thresholds), len(dt)), bool)
    wrong = np.zeros_like(right)
    crowd = gt.crowd if crowds else np.zeros(len(gt), bool)
    outside = np.array([crowd | gt.difficult * (not crowds) | (gt.area < low) | (gt.area > high) for low, high in areas.values()])
    beyond = np.array([(dt.area < low) | (dt.area > high) for low, high in areas.values()])
    for picture in table.pictures():
        found = picture.found if kept is None else picture.found[kept[picture.found]]
        for k in np.unique(dt.label[found]):
            mine, theirs = found[dt.label[found] == k][:limit], picture.true[gt.label[picture.true] == k]
            overlaps = table.overlaps(mine, theirs, crowd[theirs])
            for a in range(len(areas)):
                ignored = outside[a, theirs]
                matched = match(overlaps, thresholds, ignored, crowd[theirs])  # T d
                hit = matched >= 0
                spared = np.where(hit, ignored[matched], False) if len(theirs) else np.zeros_like(hit)
                right[a][:, mine] = hit & ~spared
                free = beyond[a, mine] if lenient is None else beyond[a, mine] | lenient[mine]
                wrong[a][:, mine] = ~hit & ~free
    shape = (-1, len(dt))
    counted = np.repeat(~outside, len(thresholds), axis=0)
    return Ranking(
        len(table.images),
        len(table.categories),
        dt.score,
        dt.image,
        dt.label,
        right.reshape(shape),
        wrong.reshape(shape),
        gt.image,
        gt.label,
        counted,
    )


def average(
    ranking: Ranking, weights: np.ndarray | None, areas: Mapping[str, tuple[float, float]], thresholds: np.ndarray = THRESHOLDS
) -> tuple[np.ndarray, np.ndarray]:
    """(average precision, recall) of `coco_like`'s ranking for weights B N, each B A T K, nan where there is no object."""
    precision, recall, _ = ranking.areas(weights, levels=LEVELS, epsilon=EPSILON)
    shape = (len(precision), len(areas), len(thresholds), ranking.classes)
    return precision.reshape(shape), recall.reshape(shape)


def mean(values: np.ndarray) -> np.ndarray:
    """B ... -> B: over all that is no nan; nan where nothing is left."""
    flat = values.reshape(len(values), -1)
    there = ~np.isnan(flat)
    return np.divide(np.where(there, flat, 0.0).sum(1), there.sum(1), out=np.full(len(flat), np.nan), where=there.any(1))
