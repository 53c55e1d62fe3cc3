"""Checked ground truth and detections: what the metrics of kind `objects` are measured of.

Such a metric offers `of_objects(objects, *, ...) -> Part`; keyword-only parameters are its arguments on the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Objects:
    """Both sides, ready to score.

    document: COCO ground truth: `images` (id, maybe height and width), `annotations` (complete, ids from 1), `categories`. results: COCO results in
    the order given, every one of a known image and category. category_ids: only these, where given. limits: ascending limits of detections an image
    and category. scored: whether the detections have scores of their own; else each has the score 1 and `iscrowd`, for they are annotations.
    Of two files that hotcoco itself has read, `document` and `results` are its objects; `as_dicts` gives plain ones.
    """

    document: Any
    results: Any
    iou_type: str = "bbox"
    limits: Sequence[int] = (1, 10, 100)
    category_ids: Sequence[int] | None = None
    backend: str = "auto"
    scored: bool = True

    def as_dicts(self) -> Objects:
        """The same of plain dicts and lists."""
        if isinstance(self.document, dict):
            return self
        found = self.results.load_anns(self.results.get_ann_ids())
        kept = ("image_id", "category_id", "score", "bbox" if self.iou_type == "bbox" else "segmentation")
        results = [{key: entry[key] for key in kept} for entry in found]
        truth = self.document
        document = {"images": list(truth.imgs.values()), "annotations": truth.load_anns(truth.get_ann_ids()), "categories": list(truth.cats.values())}
        return Objects(document, results, self.iou_type, self.limits, self.category_ids, self.backend, self.scored)


@dataclass
class Part:
    """What one metric adds to a report. many: image weights, B N (N in the order of `document['images']`), -> B values a key of `metrics`."""

    metrics: dict[str, float]
    per_class: dict[str, dict[str, Any]] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    many: Callable[[np.ndarray], dict[str, np.ndarray]] | None = None
    per_image: Callable[[], dict[str, np.ndarray]] | None = None
