"""What a validation measures: the model's own losses, and AP for detectors, mIoU for label maps, accuracy for classes of pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from cvtool import records
from cvtool.batch import Place
from cvtool.data.dataset import Dataset
from cvtool.data.loader import Loader
from cvtool.metrics.accuracy import Accuracy
from cvtool.metrics.mean_iou import MeanIoU
from cvtool.runtime.device import autocast

FIGURES = ("AP", "AP50", "val_mIoU", "val_accuracy")  # for people


class Validation:
    """Call it with a model: `val_loss`, `val_NAME` for each loss and, as fractions, what `kind` is measured by: "boxes" `AP`, `AP50` ...;
    "semantic" `val_mIoU` and `val_pixel_accuracy`, in the pictures' own pixels; "labels" `val_accuracy`, top-1.

    The model is in eval mode throughout, so that no running statistic moves; `check` is called before each batch and may raise.
    """

    def __init__(self, loader: Loader, *, device: torch.device, kind: str, precision: str = "fp32", check: Callable[[], object] = bool) -> None:
        self.loader, self.device, self.precision, self.kind, self.check = loader, device, precision, kind, check

    def __call__(self, model: Any) -> dict[str, float]:
        sums: dict[str, float] = {}
        measure = MEASURES[self.kind](self.loader.dataset)
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
                        results = model.predict(batch)
                    for name, value in losses.items():
                        sums[name] = sums.get(name, 0.0) + value.item() * len(batch)
                    for index, (result, place) in enumerate(zip(results, batch.places, strict=True), images):
                        measure.update(index, result, place)
                    images += len(batch)
        finally:
            model.train(was)
        means = {name: value / images for name, value in sums.items()}
        values = {"val_loss": sum(means.values()), **{f"val_{name}": value for name, value in means.items()}}
        return values | measure.compute()


class _Precision:
    """AP of boxes."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.found = dataset, list[dict[str, Any]]()

    def update(self, index: int, result: Any, place: Place) -> None:
        self.found += [a | {"image_id": index + 1} for a in records.annotations(result, self.dataset.categories)]

    def compute(self) -> dict[str, float]:
        return average_precision(self.dataset, self.found)


class _Overlap:
    """mIoU of label maps, against the truth before any resizing."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.metric = dataset, MeanIoU(len(dataset.categories))

    def update(self, index: int, result: Any, place: Place) -> None:
        truth = self.dataset.target(self.dataset.records[index], place.height, place.width)
        self.metric.update(result.labels.cpu(), truth.labels)  # type: ignore[attr-defined]

    def compute(self) -> dict[str, float]:
        return {f"val_{name}": value for name, value in self.metric.compute().items()}


class _Hits:
    """Top-1 accuracy."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.metric = dataset, Accuracy()

    def update(self, index: int, result: Any, place: Place) -> None:
        truth = self.dataset.target(self.dataset.records[index], place.height, place.width)
        best = result.labels.tolist()
        self.metric.update(best[0] if best else None, int(truth.labels[0]))  # type: ignore[attr-defined]

    def compute(self) -> dict[str, float]:
        return {f"val_{name}": value for name, value in self.metric.compute().items()}


MEASURES: dict[str, Callable[[Dataset], Any]] = {"boxes": _Precision, "semantic": _Overlap, "labels": _Hits}


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
