"""Precision and recall of detections over the confidence threshold, the area below that curve and its best F1.

A detection is right if it overlaps an object of its class by more than rho (`iou`) and the object is not found yet; detections choose in the order of
their confidence, each the free object that it overlaps most. Recall is right / objects, precision right / (right + wrong). The confidence from which
detections count, rho_min (`min_score`), is a setting of its own: the lower it is, the more objects are found, so recall never falls with it;
precision may go either way. Detections in a crowd or on a difficult object, which need not be found, are neither right nor wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cvtool.errors import UsageError
from cvtool.metrics._matching import match, mean
from cvtool.metrics._objects import Objects, Part
from cvtool.metrics._overlaps import Table
from cvtool.metrics._ranking import Ranking

KIND = "objects"
ALIASES = ("precision-recall",)
KEYS = {
    "precision": "of the detections at or above the confidence asked for, those that are right",
    "recall": "of the objects, those that they find",
    "F1": "harmonic mean of both",
    "PR_area": "area below the curve of precision over recall, mean over classes",
    "best_F1": "F1 of each class at its best confidence, mean over classes",
}
POINTS = 1000  # of a curve in the report at most


def of_objects(objects: Objects, *, iou: float = 0.5, min_score: float = 0.0) -> Part:
    """iou: rho, the overlap to exceed. min_score: rho_min, the confidence from which detections count in precision, recall and F1 (not in curves)."""
    if not 0 <= iou < 1:
        raise UsageError(f"--metric pr-curve: iou is at least 0 and below 1, not {iou:g}")
    table = Table(objects)
    ranking = rank(table, iou)
    confident = ranking.score >= min_score

    def counts(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Right, wrong and to be found, each B K."""
        shown = weights[:, ranking.image]
        rows = [_by_class(shown * (flags[0] & confident), ranking.label, ranking.classes) for flags in (ranking.right, ranking.wrong)]
        there = weights[:, ranking.object_image] * ranking.counted[0]
        return rows[0], rows[1], _by_class(there, ranking.object_label, ranking.classes)

    def values(weights: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """(B, B K)."""
        weights = np.asarray(weights, np.float64)
        sums = counts(weights)
        rows = _rates(*sums) | {"PR_area": ranking.areas(weights)[0][:, 0], "best_F1": _best_f1(ranking, weights)}
        whole = _rates(*(one.sum(1) for one in sums)) | {key: mean(rows[key]) for key in ("PR_area", "best_F1")}
        return whole, rows

    whole, rows = values(np.ones((1, len(table.images))))
    area = rows["PR_area"][0]
    curves = {
        name: _curve(ranking, found, theirs) | {"area": None if np.isnan(area[k]) else float(area[k])}
        for name, (k, found, theirs) in zip(table.names, ranking.of_classes(), strict=True)
    }
    return Part(
        metrics={key: float(value[0]) for key, value in whole.items()},
        per_class={
            name: {key: float(row[0, k]) for key, row in rows.items()} | {"best_score": curves[name]["best_score"]}
            for k, name in enumerate(table.names)
        },
        params={"pr_curve": {"iou": iou, "min_score": min_score}},
        extra={"pr_curve": {"iou": iou, "classes": curves}},
        many=lambda weights: values(weights)[0],
        per_image=lambda: _per_image(ranking, confident),
    )


def rank(table: Table, iou: float) -> Ranking:
    """Rights and wrongs at overlaps above `iou`, one condition."""
    gt, dt = table.gt, table.dt
    right, wrong = np.zeros((1, len(dt)), bool), np.zeros((1, len(dt)), bool)
    above = np.array([np.nextafter(iou, 1.0)])
    spared = gt.crowd | gt.difficult
    for picture in table.pictures():
        for k in np.unique(dt.label[picture.found]):
            mine = picture.found[dt.label[picture.found] == k]
            theirs = picture.true[gt.label[picture.true] == k]
            matched = match(table.overlaps(mine, theirs, gt.crowd[theirs]), above, spared[theirs], gt.crowd[theirs])[0]
            hit = matched >= 0
            right[0, mine[hit]] = ~spared[theirs[matched[hit]]]
            wrong[0, mine[~hit]] = True
    return Ranking(len(table.images), len(table.categories), dt.score, dt.image, dt.label, right, wrong, gt.image, gt.label, ~spared[None])


def curve(ranking: Ranking, found: np.ndarray, objects: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(score, precision, recall) of one class at every score that occurs, falling; found and objects as of `Ranking.of_classes`.

    Detections of one score come and go together, so a threshold between them is no point of the curve.
    """
    counted = ranking.counted[0, objects].sum()
    kept = found[ranking.right[0, found] | ranking.wrong[0, found]]
    if not len(kept) or not counted:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    score, right = ranking.score[kept], np.cumsum(ranking.right[0, kept])
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    return score[last], right[last] / (last + 1), right[last] / counted


def _curve(ranking: Ranking, found: np.ndarray, objects: np.ndarray) -> dict[str, Any]:
    """The same for a report, thinned to its most telling points, and the confidence with the best F1."""
    score, precision, recall = curve(ranking, found, objects)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    best = int(f1.argmax()) if len(f1) else None
    places = np.unique(np.linspace(0, len(score) - 1, min(len(score), POINTS)).round().astype(int)) if len(score) else np.zeros(0, int)
    points = {"score": score[places], "precision": precision[places], "recall": recall[places]}
    return {
        "objects": int(ranking.counted[0, objects].sum()),
        "best_F1": None if best is None else float(f1[best]),
        "best_score": None if best is None else float(score[best]),
        **{key: np.round(values, 6).tolist() for key, values in points.items()},
    }


def _best_f1(ranking: Ranking, weights: np.ndarray) -> np.ndarray:
    """B K: the best F1 over the scores that occur, nan without objects."""
    out = np.full((len(weights), ranking.classes), np.nan)
    for k, found, objects in ranking.of_classes():
        totals = weights[:, ranking.object_image[objects]] @ ranking.counted[0, objects]
        if not totals.any():
            continue
        out[:, k] = np.where(totals > 0, 0.0, np.nan)
        if not len(found):
            continue
        ends = np.append(np.flatnonzero(np.diff(ranking.score[found])), len(found) - 1)
        for start in range(0, len(weights), size := max(1, 4_000_000 // len(found))):
            rows = slice(start, start + size)
            shown = weights[rows][:, ranking.image[found]]
            right = np.cumsum(shown * ranking.right[0, found], 1)[:, ends]
            wrong = np.cumsum(shown * ranking.wrong[0, found], 1)[:, ends]
            below = right + wrong + totals[rows, None]
            f1 = np.divide(2 * right, below, out=np.zeros_like(below), where=below > 0)
            out[rows, k] = np.where(totals[rows] > 0, f1.max(1), np.nan)
    return out


def _rates(right: np.ndarray, wrong: np.ndarray, objects: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1 of counts; nan where nothing was found, or nothing is to be."""

    def share(one: np.ndarray, of: np.ndarray) -> np.ndarray:
        return np.divide(one, of, out=np.full(np.shape(of), np.nan), where=of > 0)

    return {"precision": share(right, right + wrong), "recall": share(right, objects), "F1": share(2 * right, right + wrong + objects)}


def _by_class(values: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """B M -> B K sums."""
    return np.stack([np.bincount(labels, row, classes)[:classes] for row in values]) if len(values) else np.zeros((0, classes))


def _per_image(ranking: Ranking, confident: np.ndarray) -> dict[str, np.ndarray]:
    right = np.bincount(ranking.image, ranking.right[0] & confident, ranking.images)
    wrong = np.bincount(ranking.image, ranking.wrong[0] & confident, ranking.images)
    return _rates(right, wrong, np.bincount(ranking.object_image, ranking.counted[0], ranking.images))
