"""COCO's figures under image weights: matched once, sorted once, then weighted sums.

Images that count twice give what pycocotools gives for a data set that holds them twice (with fresh ids), without matching anything again. Matching
is of one image and class, so that weights change it nowhere; of the weighted precision curve only the places of true positives are computed, where
alone its envelope can change. Detections of one image and class with equal scores count as if all copies of the first stood before those of the
second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cvtool.metrics._objects import Objects

RECALLS = np.linspace(0.0, 1.0, 101)
IMAGES = 500  # images matched at a time: what the engine tells of each is bulky


@dataclass
class _Cell:
    """One class and area range. Positions are into `images`: the detections that count at some threshold, best first."""

    images: np.ndarray  # D: the image of each
    hits: list[np.ndarray]  # T: positions of true positives, ascending
    without: list[np.ndarray]  # T: positions of those that do not count at this threshold, ascending
    ranks: np.ndarray  # D: place among the detections of their image and class
    owners: np.ndarray  # images with objects to find
    objects: np.ndarray  # how many each has


@dataclass
class _Row:
    """What the matching of one class and area range told, image after image."""

    images: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    matched: list[list[bool]] = field(default_factory=list)  # T
    ignored: list[list[bool]] = field(default_factory=list)  # T
    owners: list[int] = field(default_factory=list)
    objects: list[int] = field(default_factory=list)


class Matches:
    """Which detection found what, of every class, area range and threshold."""

    def __init__(
        self, cells: dict[tuple[int, int], _Cell], keys: Sequence[str], areas: Sequence[str], thresholds: Sequence[float], limits: Any
    ) -> None:
        self.cells, self.keys, self.areas, self.thresholds, self.limits = cells, list(keys), list(areas), list(thresholds), list(limits)
        self.scores: dict[int, np.ndarray] = {}  # class -> scores of the detections of its cell of all areas
        self.images = 0

    @classmethod
    def of(cls, objects: Objects, keys: Sequence[str]) -> Matches:
        """Match once, with the engine that scores too. keys: the figures wanted, as `Scores.summary` names them."""
        engine = _Engine(objects)
        rows: dict[tuple[int, int], _Row] = {}
        places = {image: n for n, image in enumerate(engine.images)}
        order = sorted(places)  # ties are broken by image id, as in pycocotools
        for first in range(0, len(order), IMAGES):
            for entry in engine.matched(order[first : first + IMAGES]):
                _read(entry, rows, places, engine)
        T = len(engine.thresholds)
        self = cls({}, keys, engine.areas, engine.thresholds, engine.limits)
        self.images = len(places)
        for key, row in rows.items():
            cell, scores = _sorted(row, T)
            self.cells[key] = cell
            if key[1] == 0:
                self.scores[key[0]] = scores
        return self

    def weighted(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """B N image weights -> B values of each figure, nan where nothing is left to measure."""
        B, T, A = len(weights), len(self.thresholds), len(self.areas)
        weights = np.ascontiguousarray(weights, np.float64)
        precision, recall = np.zeros((A, T, B)), np.zeros((A, T, B))
        few = {limit: np.zeros((T, B)) for limit in self.limits[:-1]}
        classes = np.zeros((A, B))
        for (_, area), cell in self.cells.items():
            there = weights[:, cell.owners] @ cell.objects  # B
            classes[area] += there > 0
            if not cell.images.size or not there.any():
                continue
            own = weights[:, cell.images]  # B D
            seen = np.cumsum(own, 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                share = np.where(there > 0, 1 / there, 0)
            for t in range(T):
                hits = cell.hits[t]
                if not hits.size:
                    continue
                hit = own[:, hits]
                right = np.cumsum(hit, 1)  # B H
                counted = seen[:, hits]
                if (gone := cell.without[t]).size:
                    left = np.cumsum(own[:, gone], 1)
                    before = np.searchsorted(gone, hits)
                    counted = counted - np.where(before > 0, left[:, before - 1], 0)
                precision[area, t] += _area_under(right, counted, there)
                recall[area, t] += right[:, -1] * share
                if area == 0:
                    for limit, sums in few.items():
                        sums[t] += hit[:, cell.ranks[hits] < limit].sum(1) * share
        return self._figures(precision, recall, few, classes)

    def _figures(self, precision: np.ndarray, recall: np.ndarray, few: dict[int, np.ndarray], classes: np.ndarray) -> dict[str, np.ndarray]:
        """Means over classes, A T B sums -> B a key, in the order of `Scores.summary`."""

        def mean(sums: np.ndarray, area: int, iou: float | None = None) -> np.ndarray:
            rows = sums if iou is None else sums[[t for t, value in enumerate(self.thresholds) if np.isclose(value, iou)]]
            with np.errstate(divide="ignore", invalid="ignore"):
                return (
                    np.where(classes[area] > 0, rows.sum(0) / (classes[area] * len(rows)), np.nan) if len(rows) else np.full(rows.shape[-1], np.nan)
                )

        values = {}
        for key in self.keys:
            kind, rest = key[:2], key[2:]
            area = next((a for a, name in enumerate(self.areas) if a and name[0] == rest), 0)
            table = precision if kind == "AP" else recall
            iou = int(rest) / 100 if rest.isdigit() and (kind == "AP" or (len(self.limits) == 1 and int(rest) in (50, 75))) else None
            if kind == "AR" and rest.isdigit() and iou is None and int(rest) in few:
                values[key] = mean(few[int(rest)], 0)
            else:
                values[key] = mean(table[area], area, iou)
        return values

    def per_image(self) -> dict[str, np.ndarray]:
        """Of each image, at overlap 0.5 and the score at which the whole set's F1 is best: `f1` (nan without objects and detections), `missed`,
        `false_positives`."""
        t = next((t for t, value in enumerate(self.thresholds) if np.isclose(value, 0.5)), 0)
        scores, hits, images = [], [], []
        objects = np.zeros(self.images)
        for (k, area), cell in self.cells.items():
            if area:
                continue
            np.add.at(objects, cell.owners, cell.objects)
            counted = np.ones(len(cell.images), bool)
            counted[cell.without[t]] = False
            hit = np.zeros(len(cell.images), bool)
            hit[cell.hits[t]] = True
            scores.append(self.scores[k][counted])
            hits.append(hit[counted])
            images.append(cell.images[counted])
        score, hit, image = (np.concatenate(parts) if parts else np.zeros(0) for parts in (scores, hits, images))
        order = np.argsort(-score, kind="stable")
        right = np.cumsum(hit[order])
        f1 = 2 * right / (np.arange(1, len(order) + 1) + objects.sum())
        kept = order[: int(f1.argmax()) + 1] if len(order) else order
        found = np.bincount(image[kept].astype(int), hit[kept].astype(float), minlength=self.images)
        said = np.bincount(image[kept].astype(int), minlength=self.images)
        with np.errstate(invalid="ignore"):
            return {
                "f1": np.where(said + objects > 0, 2 * found / (said + objects), np.nan),
                "missed": objects - found,
                "false_positives": said - found,
            }


def _area_under(right: np.ndarray, counted: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Interpolated precision at 101 recalls, mean: B H cumulated true positives and detections, B objects to find -> B."""
    curve = right / (counted + np.spacing(1))
    envelope = np.maximum.accumulate(curve[:, ::-1], 1)[:, ::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        reached = np.searchsorted(RECALLS, np.where(there[:, None] > 0, right / there[:, None], 0), side="right")
    fresh = np.diff(reached, axis=1, prepend=0)
    return np.where(there > 0, np.einsum("bh,bh->b", envelope, fresh) / len(RECALLS), 0)


def _read(entry: dict, rows: dict[tuple[int, int], _Row], places: dict[int, int], engine: _Engine) -> None:
    """One image, class and area range, as both engines tell it."""
    row = rows.setdefault((entry["category_id"], engine.area(entry["aRng"])), _Row())
    place = places[entry["image_id"]]
    found = len(entry["dtScores"])
    if not row.matched:
        row.matched, row.ignored = [[] for _ in engine.thresholds], [[] for _ in engine.thresholds]
    if found:
        row.images += [place] * found
        row.scores += list(entry["dtScores"])
        row.ranks += range(found)
        for kept, values in zip(row.matched, entry.get("dtMatched", entry["dtMatches"]), strict=True):
            kept += list(values)
        for kept, values in zip(row.ignored, entry["dtIgnore"], strict=True):
            kept += list(values)
    if number := len(entry["gtIgnore"]) - int(sum(entry["gtIgnore"])):
        row.owners.append(place)
        row.objects.append(number)


def _sorted(row: _Row, T: int) -> tuple[_Cell, np.ndarray]:
    scores = np.array(row.scores, np.float64)
    order = np.argsort(-scores, kind="stable")
    matched = np.array(row.matched, bool).reshape(T, -1)[:, order]
    ignored = np.array(row.ignored, bool).reshape(T, -1)[:, order]
    counts = ~ignored.all(0)
    order, matched, ignored = order[counts], matched[:, counts], ignored[:, counts]
    images, ranks = np.array(row.images, np.int64)[order], np.array(row.ranks, np.int64)[order]
    hits = [np.flatnonzero(m & ~i) for m, i in zip(matched, ignored, strict=True)]
    owners, objects = np.array(row.owners, np.int64), np.array(row.objects, np.float64)
    return _Cell(images, hits, [np.flatnonzero(i) for i in ignored], ranks, owners, objects), scores[order]


class _Engine:
    """hotcoco or, where it is not wanted, pycocotools: matches the images asked for."""

    def __init__(self, objects: Objects) -> None:
        from cvtool.metrics.coco import matcher

        self.scorer, self.images = matcher(objects.document, objects.results, objects.iou_type, objects.limits, objects.category_ids, objects.backend)
        params = self.scorer.params
        self.snake = hasattr(params, "img_ids")
        self.thresholds = [float(t) for t in (params.iou_thrs if self.snake else params.iouThrs)]
        ranges, names = (params.area_rng, params.area_rng_lbl) if self.snake else (params.areaRng, params.areaRngLbl)
        self.areas, self._ranges = list(names), {tuple(map(float, bounds)): a for a, bounds in enumerate(ranges)}
        self.limits = list(objects.limits)

    def area(self, bounds: Sequence[float]) -> int:
        return self._ranges[tuple(map(float, bounds))]

    def matched(self, images: list[int]) -> Iterator[dict[str, Any]]:
        if self.snake:
            self.scorer.params.img_ids = images
            self.scorer.evaluate()
            yield from (entry for entry in self.scorer.eval_imgs if entry is not None)
        else:
            import contextlib
            import io

            self.scorer.params.imgIds = images
            with contextlib.redirect_stdout(io.StringIO()):
                self.scorer.evaluate()
            yield from (entry for entry in self.scorer.evalImgs if entry is not None)
