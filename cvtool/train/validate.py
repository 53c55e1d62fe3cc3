"""What a validation measures: the model's own losses and, for detectors, COCO's AP against the records' annotations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from cvtool import records
from cvtool.data.dataset import Dataset
from cvtool.data.loader import Loader
from cvtool.runtime.device import autocast


class Validation:
    """Call it with a model: `val_loss`, `val_NAME` for each loss and, where `boxes`, `AP`, `AP50` ... as fractions.

    The model is in eval mode throughout, so that no running statistic moves; `check` is called before each batch and may raise.
    """

    def __init__(self, loader: Loader, *, device: torch.device, boxes: bool, precision: str = "fp32", check: Callable[[], object] = bool) -> None:
        self.loader, self.device, self.precision, self.boxes, self.check = loader, device, precision, boxes, check

    def __call__(self, model: Any) -> dict[str, float]:
        sums: dict[str, float] = {}
        found: list[dict[str, Any]] = []
        images = 0
        was = model.training
        model.eval()
        try:
            with torch.no_grad():  # not inference_mode: what a model caches here must still serve training
                for item in self.loader.epoch(0):
                    self.check()
                    batch = item.batch.to(self.device)
                    with autocast(self.device, self.precision):
                        losses = model.losses(batch)
                        results = model.predict(batch) if self.boxes else ()
                    for name, value in losses.items():
                        sums[name] = sums.get(name, 0.0) + value.item() * len(batch)
                    for number, result in enumerate(results, images + 1):
                        found += [a | {"image_id": number} for a in records.annotations(result, self.loader.dataset.categories)]
                    images += len(batch)
        finally:
            model.train(was)
        means = {name: value / images for name, value in sums.items()}
        values = {"val_loss": sum(means.values()), **{f"val_{name}": value for name, value in means.items()}}
        return values | (average_precision(self.loader.dataset, found) if self.boxes else {})


def average_precision(dataset: Dataset, found: list[dict[str, Any]]) -> dict[str, float]:
    """The COCO metrics of detections whose `image_id` counts the data set's pictures from 1; what could not be measured is left out."""
    from cvtool.metrics.coco import evaluate

    values = evaluate(truth(dataset), found, iou_type="bbox")
    return {key: float(value) for key, value in values.items() if isinstance(value, (int, float)) and math.isfinite(value)}


def truth(dataset: Dataset) -> dict[str, Any]:
    """A COCO document of the annotations, crowds included, with the training categories' ids."""
    kept: list[dict[str, Any]] = []
    for number, record in enumerate(dataset.records, 1):
        for a in record.get("annotations") or ():
            if "bbox" in a:
                category = dataset.categories[dataset.label(a, record)]
                area = a.get("area") or a["bbox"][2] * a["bbox"][3]
                kept.append({"iscrowd": 0} | a | {"id": len(kept) + 1, "image_id": number, "area": area, "category_id": category["id"]})
    images = [{"id": i, **{key: r[key] for key in ("file_name", "width", "height") if key in r}} for i, r in enumerate(dataset.records, 1)]
    return {"info": {}, "images": images, "annotations": kept, "categories": [c for c in dataset.categories if c is not None]}
