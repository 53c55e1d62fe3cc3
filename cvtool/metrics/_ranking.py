"""Detections of each class by falling score, and which of them are right: the curves and areas that all average precisions are made of.

Several conditions (overlap thresholds, ranges of area) are measured side by side, each with its own rights and wrongs; a detection that is neither is
ignored under that condition. Every image has a weight that says how often it counts, which makes a resampled data set a matter of sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

EPSILON = float(np.spacing(1))  # COCO's: added to the number of detections
MOST = 4_000_000  # cells of one intermediate array


@dataclass
class Ranking:
    """D detections and G objects in N images of K classes, under C conditions. Detections stand in the order in which ties are broken."""

    images: int
    classes: int
    score: np.ndarray  # D
    image: np.ndarray  # D int, 0..N-1
    label: np.ndarray  # D int, 0..K-1
    right: np.ndarray  # C D bool
    wrong: np.ndarray  # C D bool
    object_image: np.ndarray  # G int
    object_label: np.ndarray  # G int
    counted: np.ndarray  # C G bool: objects that are to be found

    def of_classes(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(class, its detections by falling score, its objects) for every class."""
        order = np.lexsort((-self.score, self.label))
        ends = np.searchsorted(self.label[order], np.arange(self.classes + 1))
        objects = np.argsort(self.object_label, kind="stable")
        theirs = np.searchsorted(self.object_label[objects], np.arange(self.classes + 1))
        for k in range(self.classes):
            yield k, order[ends[k] : ends[k + 1]], objects[theirs[k] : theirs[k + 1]]

    def areas(
        self, weights: np.ndarray | None = None, *, levels: np.ndarray | None = None, epsilon: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(average precision, recall, objects), each B C K, for weights B N (none: every image once); nan where there is no object to find.

        levels: rising recalls at which the best precision from there on is read, the mean of which is the average precision; none: the whole area.
        """
        weights = np.ones((1, self.images)) if weights is None else np.asarray(weights, np.float64)
        shape = (len(weights), len(self.right), self.classes)
        area, recall, totals = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape)
        for k, found, objects in self.of_classes():
            totals[:, :, k] = weights[:, self.object_image[objects]] @ self.counted[:, objects].T
            if not totals[:, :, k].any():
                continue
            size = max(1, MOST // max(1, len(found) * len(self.right)))
            for start in range(0, len(weights), size):
                rows = slice(start, start + size)
                area[rows, :, k], recall[rows, :, k] = self._area(weights[rows], found, totals[rows, :, k], levels, epsilon)
        return area, recall, totals

    def curve(self, weights: np.ndarray, found: np.ndarray, totals: np.ndarray, epsilon: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """(precision, recall) after each of `found` detections, B C d; totals B C > 0. Before the first one of weight the precision is 0."""
        once = weights[:, None, self.image[found]]  # B 1 d
        right = np.cumsum(once * self.right[:, found], -1)
        every = right + np.cumsum(once * self.wrong[:, found], -1)
        precision = np.divide(right, every + epsilon, out=np.zeros_like(right), where=every > 0)
        return precision, right / np.where(totals > 0, totals, np.nan)[..., None]

    def _area(
        self, weights: np.ndarray, found: np.ndarray, totals: np.ndarray, levels: np.ndarray | None, epsilon: float
    ) -> tuple[np.ndarray, np.ndarray]:
        none = np.where(totals > 0, 0.0, np.nan)
        if not len(found):
            return none, none
        precision, recall = self.curve(weights, found, totals, epsilon)
        return area(precision, recall, levels), np.where(totals > 0, recall[..., -1], np.nan)


def area(precision: np.ndarray, recall: np.ndarray, levels: np.ndarray | None = None) -> np.ndarray:
    """... d precision and rising recall -> ... average precision; nan where recall is nan.

    Precision at a recall is the best one at that recall or beyond it.
    """
    best = np.maximum.accumulate(precision[..., ::-1], -1)[..., ::-1]
    if levels is None:
        return (np.diff(recall, axis=-1, prepend=0.0) * best).sum(-1)
    shape, d = precision.shape[:-1], precision.shape[-1]
    out = np.empty(int(np.prod(shape)))
    for i, (row, reached) in enumerate(zip(best.reshape(-1, d), recall.reshape(-1, d), strict=True)):
        if np.isnan(reached[-1]):
            out[i] = np.nan
            continue
        places = np.searchsorted(reached, levels, side="left")
        out[i] = row[places[places < d]].sum() / len(levels)
    return out.reshape(shape)
