"""Objects in the HTML report: curves, scores and confusion, and in the worst pictures what was found, missed and wrong."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from cvtool.metrics import detection_confusion, pr_curve
from cvtool.metrics._matching import match
from cvtool.metrics._objects import Objects
from cvtool.metrics._overlaps import Picture, Table
from cvtool.metrics._ranking import Ranking
from cvtool.metrics.coco import Scores
from cvtool.tasks.evaluation._page import calibration, scores

IOU = 0.5
POINTS = 160  # longer side of the grid on which masks are outlined, and points of a curve
BOXES = 60  # found objects shown in a picture at most


class Shown:
    """Both sides of an evaluation of objects; nothing is computed before it is asked for. measured: COCO's arrays, where they were measured."""

    def __init__(self, objects: Objects, measured: Scores | None) -> None:
        self.objects, self.scores = objects, measured
        self.ranked = objects.scored and objects.iou_type in ("bbox", "segm")

    @cached_property
    def table(self) -> Table:
        """Both sides; keypoints are shown as the boxes around them, and what has no scores as it is."""
        plain = replace(self.objects.as_dicts(), scored=True)
        if plain.iou_type == "keypoints":
            entries = [{**entry, "bbox": entry.get("bbox") or _around(entry["keypoints"])} for entry in plain.results]
            truth = [{**entry, "bbox": entry.get("bbox") or _around(entry.get("keypoints", []))} for entry in plain.document["annotations"]]
            plain = replace(plain, results=entries, document={**plain.document, "annotations": truth}, iou_type="bbox")
        return Table(plain, ("bbox", "segm", "boundary"))

    @cached_property
    def pictures(self) -> list[Picture]:
        return list(self.table.pictures())

    @cached_property
    def ranking(self) -> Ranking:
        return pr_curve.rank(self.table, IOU)

    @cached_property
    def confident(self) -> float:
        """The score from which on F1 of the whole is best; lower ones are not shown."""
        if not self.ranked:
            return -np.inf
        order = np.argsort(-self.ranking.score, kind="stable")
        right, wrong = np.cumsum(self.ranking.right[0, order]), np.cumsum(self.ranking.wrong[0, order])
        f1 = 2 * right / np.maximum(1, right + wrong + self.ranking.counted[0].sum())
        return float(self.ranking.score[order[f1.argmax()]]) if len(f1) and f1.max() > 0 else -np.inf

    def unit(self, number: int) -> dict[str, Any]:
        """Marks of one picture."""
        table, picture, image = self.table, self.pictures[number], self.table.images[number]
        gt, dt = table.gt, table.dt
        mine = picture.found[dt.score[picture.found] >= self.confident][:BOXES]
        met: set[int] = set()
        states: dict[int, str] = {}
        for k in np.unique(dt.label[mine]):
            found, true = mine[dt.label[mine] == k], picture.true[gt.label[picture.true] == k]
            spared = gt.crowd[true] | gt.difficult[true]
            hit = match(table.overlaps(found, true, gt.crowd[true]), np.array([IOU]), spared, gt.crowd[true])[0]
            states |= {int(i): "wrong" if j < 0 else "spared" if spared[j] else "right" for i, j in zip(found, hit, strict=True)}
            met |= {int(true[j]) for j in hit if j >= 0}
        scored = self.objects.scored
        return {
            "size": (image["width"], image["height"]) if image.get("width") and image.get("height") else None,
            "truth": [
                {"label": table.names[gt.label[i]] + (" (crowd)" if gt.crowd[i] else "")}
                | {"state": "spared" if gt.crowd[i] or gt.difficult[i] else "met" if int(i) in met else "missed"}
                | self._shape(gt.shapes[i])
                for i in picture.true
            ],
            "found": [
                {"label": table.names[dt.label[i]], "state": states[int(i)]}
                | ({"score": float(dt.score[i])} if scored else {})
                | self._shape(dt.shapes[i])
                for i in mine
            ],
        }

    def _shape(self, shape: Any) -> dict[str, Any]:
        """A box as it is, a mask as polygons along a coarse grid."""
        if isinstance(shape, np.ndarray):
            return {"box": np.round(shape, 1).tolist()}
        from pycocotools import mask as coco

        from cvtool.data.formats._polygons import outlines

        height, width = shape["size"]
        step = max(1, -(-max(height, width) // POINTS))
        pixels = np.asarray(coco.decode(shape), bool)[step // 2 :: step, step // 2 :: step]
        if not pixels.any():
            return {"box": np.round(coco.toBbox(shape), 1).tolist()}
        rings = [[min(v * step, height if i % 2 else width) for i, v in enumerate(ring)] for ring in outlines(pixels)]
        return {"polygons": rings}

    def charts(self) -> dict[str, Any]:
        """Mean curves as the measured arrays have them; curves of classes, scores, calibration and confusion at overlap 0.5."""
        out: dict[str, Any] = {}
        if self.scores is not None:
            out["curves"] = _curves(self.scores)
        if not self.ranked:
            return out
        out["classes"] = {"iou": IOU, "classes": self._of_classes()}
        counted = self.ranking.right[0] | self.ranking.wrong[0]
        values, right = self.ranking.score[counted], self.ranking.right[0, counted]
        out |= {key: found for key, found in (("scores", scores(values, right)), ("calibration", calibration(values, right))) if found}
        level = max(0.0, min(0.25, float(values.max(initial=0.0))))
        out["confusion"] = self._confusion(level)
        return out

    def _of_classes(self) -> dict[str, dict[str, Any]]:
        """The curve of each class as the metric pr-curve has it, thinned."""
        area = self.ranking.areas()[0][0, 0]
        rows = {}
        for name, (k, found, objects) in zip(self.table.names, self.ranking.of_classes(), strict=True):
            _, precision, recall = pr_curve.curve(self.ranking, found, objects)
            places = np.unique(np.linspace(0, max(0, len(recall) - 1), min(len(recall), POINTS)).round().astype(int))
            row = {"objects": int(self.ranking.counted[0, objects].sum()), "area": float(area[k])}
            rows[name] = row | {"precision": precision[places].round(4).tolist(), "recall": recall[places].round(4).tolist()}
        return rows

    def _confusion(self, level: float) -> dict[str, Any]:
        k = len(self.table.categories)
        true, found, _ = detection_confusion.pairs(self.table, IOU, level)
        matrix = np.bincount(true * (k + 1) + found, minlength=(k + 1) ** 2).reshape(k + 1, k + 1)
        return {
            "categories": self.table.names,
            "matrix": matrix[:k, :k].tolist(),
            "none": matrix[:k, k].tolist(),
            "background": matrix[k, :k].tolist(),
            "note": f"Overlap of at least {IOU:g}, scores from {level:g} on; background is where there is no object.",
        }

    def values(self) -> dict[str, np.ndarray] | None:
        """Of every picture what its card shows: f1 (nan without anything), missed and false positives; None where scores do not rank."""
        if not self.ranked:
            return None
        kept = self.ranking.score >= self.confident
        n = self.ranking.images
        right, wrong = (np.bincount(self.ranking.image, flags[0] & kept, n) for flags in (self.ranking.right, self.ranking.wrong))
        objects = np.bincount(self.ranking.object_image, self.ranking.counted[0], n)
        below = right + wrong + objects
        f1 = np.divide(2 * right, below, out=np.full(n, np.nan), where=below > 0)
        return {"f1": f1, "missed": objects - right, "false_positives": wrong}


def _curves(found: Scores) -> list[dict[str, Any]]:
    """Precision at 101 levels of recall, mean over the classes that have objects; the area below each is the average precision of its name."""
    cells = found.precision[:, :, :, list(found.areas).index("all"), -1]  # T R K
    there = (cells > -1).all((0, 1))
    if not there.any():
        return []
    levels = np.linspace(0, 1, cells.shape[1])
    lines = []
    for limit in (0.5, 0.75):
        for t in (t for t, value in enumerate(found.iou_thresholds) if np.isclose(value, limit)):
            row = cells[t][:, there].mean(1)
            lines.append({"name": f"overlap {limit:.2f}, AP {row.mean():.4f}", "x": levels, "y": row})
    row = cells[:, :, there].mean((0, 2))
    low, high = min(found.iou_thresholds), max(found.iou_thresholds)
    return [*lines, {"name": f"overlaps {low:.2f} to {high:.2f}, AP {row.mean():.4f}", "x": levels, "y": row}]


def _around(keypoints: list[float]) -> list[float]:
    """The box around the points that are there."""
    points = np.array(keypoints, np.float64).reshape(-1, 3)
    points = points[points[:, 2] > 0, :2] if (points[:, 2] > 0).any() else points[:, :2]
    if not len(points):
        return [0.0, 0.0, 0.0, 0.0]
    low, high = points.min(0), points.max(0)
    return [*low.tolist(), *(high - low).tolist()]
