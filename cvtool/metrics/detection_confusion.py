"""Which classes of objects are taken for which: detections against objects, background included, at one overlap and one confidence.

First each detection finds an object of its own class as in `pr-curve`; then what is left on both sides is paired across classes, the largest overlap
first. Rows are the objects' classes, columns the detections'. The last row, background, holds detections of nothing; the last column, none, objects
that nothing was found on. Detections in a crowd or on a difficult object are left out.
"""

from __future__ import annotations

import numpy as np

from cvtool.errors import UsageError
from cvtool.metrics._matching import match
from cvtool.metrics._objects import Objects, Part
from cvtool.metrics._overlaps import Table

KIND = "objects"
ALIASES = ("object-confusion",)
KEYS = {
    "right_class": "objects found as what they are",
    "wrong_class": "objects found as something else",
    "not_found": "objects that nothing was found on",
    "on_background": "detections on which there is no object",
}
LOWER = ("wrong_class", "not_found", "on_background")


def of_objects(objects: Objects, *, iou: float = 0.5, min_score: float = 0.25) -> Part:
    """iou: the overlap that is enough. min_score: the confidence from which detections count."""
    if not 0 < iou <= 1:
        raise UsageError(f"--metric detection-confusion: iou is above 0 and at most 1, not {iou:g}")
    table = Table(objects)
    true, found, image = pairs(table, iou, min_score)
    k, n = len(table.categories), len(table.images)
    matrix = np.bincount(true * (k + 1) + found, minlength=(k + 1) ** 2).reshape(k + 1, k + 1)
    kinds = np.select([found == k, true == k, true == found], [2, 3, 0], 1)
    counts = np.bincount(image * 4 + kinds, minlength=4 * n).reshape(n, 4)  # N: right class, wrong class, not found, on background

    def many(weights: np.ndarray) -> dict[str, np.ndarray]:
        return _shares(weights @ counts)

    return Part(
        metrics={key: float(value[0]) for key, value in many(np.ones((1, n))).items()},
        per_class={name: _row(matrix, i) for i, name in enumerate(table.names)},
        params={"detection_confusion": {"iou": iou, "min_score": min_score}},
        extra={
            "confusion": {
                "categories": table.names,
                "matrix": matrix[:k, :k].tolist(),
                "none": matrix[:k, k].tolist(),
                "background": matrix[k, :k].tolist(),
            }
        },
        many=many,
        per_image=lambda: _shares(counts.astype(float)),
    )


def pairs(table: Table, iou: float, min_score: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(class of the object, K for background; class of the detection, K for none; image) of every object, and of every detection without one."""
    gt, dt, k = table.gt, table.dt, len(table.categories)
    spared = gt.crowd | gt.difficult
    rows: list[tuple[int, int, int]] = []
    for picture in table.pictures():
        mine = picture.found[dt.score[picture.found] >= min_score]
        theirs = picture.true
        overlaps = table.overlaps(mine, theirs, gt.crowd[theirs])
        partner = np.full(len(mine), -1)  # -1: none so far
        for label in np.unique(dt.label[mine]):
            own, same = np.flatnonzero(dt.label[mine] == label), np.flatnonzero(gt.label[theirs] == label)
            hit = match(overlaps[np.ix_(own, same)], np.array([iou]), spared[theirs[same]], gt.crowd[theirs[same]])[0]
            partner[own[hit >= 0]] = same[hit[hit >= 0]]
        open_ = ~spared[theirs] & ~np.isin(np.arange(len(theirs)), partner)
        rest = np.where((partner < 0)[:, None] & open_, overlaps, 0.0)
        for place in np.argsort(-rest, axis=None, kind="stable")[: int((rest >= iou).sum())]:
            i, j = divmod(int(place), len(theirs))
            if partner[i] < 0 and open_[j]:
                partner[i], open_[j] = j, False
        for i, j in enumerate(partner):
            if j < 0 or not spared[theirs[j]]:
                rows.append((int(gt.label[theirs[j]]) if j >= 0 else k, int(dt.label[mine[i]]), picture.number))
        rows += [(int(gt.label[theirs[j]]), k, picture.number) for j in np.flatnonzero(open_)]
    columns = np.array(rows, int).reshape(-1, 3).T
    return columns[0], columns[1], columns[2]


def _shares(counts: np.ndarray) -> dict[str, np.ndarray]:
    """... 4 counts -> the metrics; nan without objects, or without detections."""
    right, wrong, missed, nothing = (counts[..., i] for i in range(4))
    objects, found = right + wrong + missed, right + wrong + nothing

    def share(one: np.ndarray, of: np.ndarray) -> np.ndarray:
        return np.divide(one, of, out=np.full(np.shape(of), np.nan), where=of > 0)

    values = {"right_class": share(right, objects), "wrong_class": share(wrong, objects), "not_found": share(missed, objects)}
    return values | {"on_background": share(nothing, found)}


def _row(matrix: np.ndarray, i: int) -> dict[str, float | None]:
    k = len(matrix) - 1
    objects, found = matrix[i].sum(), matrix[:, i].sum()
    right, missed = matrix[i, i], matrix[i, k]
    return {
        "right_class": float(right / objects) if objects else None,
        "wrong_class": float((objects - right - missed) / objects) if objects else None,
        "not_found": float(missed / objects) if objects else None,
        "on_background": float(matrix[k, i] / found) if found else None,
    }
