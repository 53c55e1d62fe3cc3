"""Where the errors of a detector are: the worst images, wrong detections by confidence, objects not found by size, confidence against precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cvtool.metrics._matching import AREAS
from cvtool.metrics._overlaps import Table

WORST = 10
BINS = 10


def analysis(table: Table, verdicts: Any, missed: np.ndarray, types: Sequence[str]) -> dict[str, Any]:
    """Parts of a report; verdicts: `tide.Verdicts`; missed: the objects (G) of the last of the types, the others are of detections."""
    return {
        "worst_images": _worst(table, verdicts, missed, types),
        "by_score": _by_score(table, verdicts, types[:-1]),
        "by_size": _by_size(table, verdicts),
        "calibration": calibration(table.dt.score[verdicts.state >= 0], verdicts.state[verdicts.state >= 0] == 1),
    }


def _worst(table: Table, verdicts: Any, missed: np.ndarray, types: Sequence[str]) -> list[dict[str, Any]]:
    """The images with the most errors: wrong detections and objects missed; by kind."""
    n = len(table.images)
    wrong = verdicts.state == 0
    rows = [np.bincount(table.dt.image[wrong & (verdicts.kind == i)], minlength=n) for i in range(len(types) - 1)]
    errors = np.stack([*rows, np.bincount(table.gt.image[missed], minlength=n)])  # types N
    right = np.bincount(table.dt.image[verdicts.state == 1], minlength=n)
    order = np.argsort(-errors.sum(0), kind="stable")[:WORST]
    return [
        {"image": table.images[i].get("file_name", table.images[i]["id"]), "errors": int(errors[:, i].sum()), "right": int(right[i])}
        | {name: int(count) for name, count in zip(types, errors[:, i], strict=True)}
        for i in order
        if errors[:, i].any()
    ]


def _by_score(table: Table, verdicts: Any, types: Sequence[str]) -> list[dict[str, Any]]:
    """Right and wrong detections in ten ranges of confidence from 0 to 1; what lies outside counts in the first or last."""
    place = _bins(table.dt.score)
    rows = []
    for b in range(BINS):
        here = place == b
        kinds = {name: int((here & (verdicts.state == 0) & (verdicts.kind == i)).sum()) for i, name in enumerate(types)}
        rows.append(
            {"from": b / BINS, "to": (b + 1) / BINS, "right": int((here & (verdicts.state == 1)).sum()), "wrong": sum(kinds.values()), **kinds}
        )
    return rows


def _by_size(table: Table, verdicts: Any) -> dict[str, dict[str, int]]:
    """Objects of COCO's three sizes, and those that were not found."""
    edges = [high for name, (_, high) in AREAS.items() if name != "all"][:-1]
    size = np.searchsorted(edges, table.gt.area, side="right")
    names = [name for name in AREAS if name != "all"]
    count = {name: verdicts.counted & (size == i) for i, name in enumerate(names)}
    return {name: {"objects": int(here.sum()), "not_found": int((here & ~verdicts.used).sum())} for name, here in count.items()}


def calibration(score: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Mean confidence against precision in ten ranges, and the mean distance of both, weighted by detections (ECE); None without detections, or where
    scores are no confidences between 0 and 1."""
    if not len(score) or score.min() < 0 or score.max() > 1:
        return {"ECE": None, "bins": []}
    place, rows = _bins(score), []
    for b in np.unique(place):
        here = place == b
        pair = {"score": float(score[here].mean()), "precision": float(right[here].mean())}
        rows.append({"from": int(b) / BINS, "to": (int(b) + 1) / BINS, "detections": int(here.sum()), **pair})
    return {"ECE": sum(row["detections"] * abs(row["score"] - row["precision"]) for row in rows) / len(score), "bins": rows}


def _bins(score: np.ndarray) -> np.ndarray:
    return np.clip((score * BINS).astype(int), 0, BINS - 1)
