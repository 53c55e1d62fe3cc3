"""What a validation measures: the model's own losses, and AP for detectors, mIoU for label maps, accuracy for classes of pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cvtool.annotations import of_result
from cvtool.batch import Place
from cvtool.data.dataset import Dataset, quads_of, text_of
from cvtool.data.loader import Loader
from cvtool.errors import InputError
from cvtool.metrics import cer, icdar, word_accuracy
from cvtool.metrics._probe import probed
from cvtool.metrics.accuracy import Accuracy
from cvtool.metrics.confusion import Confusion
from cvtool.metrics.mean_iou import MeanIoU
from cvtool.results import Text
from cvtool.runtime.device import autocast
from cvtool.train.distributed import World

FIGURES = (
    "AP", "AP50", "val_mIoU", "val_accuracy", "val_knn_accuracy", "val_probe_accuracy", "val_word_accuracy", "val_CER", "val_hmean",
)  # for people  # fmt: skip


class Validation:
    """Call it with a model: `val_loss`, `val_NAME` for each loss and, as fractions, what `kind` is measured by: "boxes" `AP`, `AP50` ...;
    "semantic" `val_mIoU`, `val_pixel_accuracy` ..., in the pictures' own pixels; "labels" `val_accuracy`, `val_top5_accuracy` among more than five
    classes, `val_balanced_accuracy`; "vectors" `val_knn_accuracy`, `val_probe_accuracy`; "text" `val_word_accuracy`, `val_CER`; "quads" `val_hmean`,
    `val_precision`, `val_recall` by the protocol of ICDAR 2015. Of "pictures" there are losses alone.

    The model is in eval mode throughout, so that no running statistic moves; `check` is called before each batch and may raise.
    Several processes (`world`) take every N-th batch each, whole; what they found is put together, so that the figures are those of one process.
    in_step: the model is computed by all of them at once or by none, so that one without a batch computes another one's for nothing.
    """

    def __init__(self, loader: Loader, *, device: torch.device, kind: str, precision: str = "fp32", check: Callable[[], object] = bool,
        world: World | None = None, in_step: bool = False,
    ) -> None:  # fmt: skip
        self.loader, self.device, self.precision, self.kind, self.check = loader, device, precision, kind, check
        self.world, self.in_step = world or World(), in_step

    def __call__(self, model: Any) -> dict[str, float]:
        terms: list[tuple[int, int, dict[str, float]]] = []  # of each batch: its first picture, how many it holds, their mean losses
        measure = MEASURES[self.kind](self.loader.dataset)
        was = model.training
        model.eval()
        try:
            with torch.no_grad():  # not inference_mode: what a model caches here must still serve training
                items = self.loader.epoch(0)
                for _ in range(-(-len(self.loader) // self.world.size)):  # as often in each process
                    self.check()
                    item = next(items, None)
                    if counts := item is not None:
                        pass
                    elif self.in_step:
                        item = self.loader.make(0, self.loader.plan(0)[0])
                    else:
                        continue
                    batch = item.batch.to(self.device)
                    with autocast(self.device, self.precision):
                        losses = model.losses(batch) if hasattr(model, "losses") else {}
                        results = [None] * len(batch) if self.kind == "pictures" else model.predict(batch)
                    if not counts:
                        continue
                    terms.append((item.indices[0], len(batch), {name: value.item() for name, value in losses.items()}))
                    for index, result, place in zip(item.indices, results, batch.places, strict=True):
                        measure.update(index, result, place)
                next(items, None)  # to its end, which notes the last pictures that could not be read
        finally:
            model.train(was)
        if self.world.alone:
            return self.summed(terms, measure)
        told = self.world.exchange((terms, measure.found(), self.loader.dataset.bad))
        values: dict[str, float] = {}
        with self.world.agreed():
            if self.world.first:
                for _, _, bad in told:
                    self.loader.dataset.bad.update(bad)
                for _, found, _ in told[1:]:
                    measure.join(found)
                values = self.summed(sorted((term for some, _, _ in told for term in some), key=lambda term: term[0]), measure)
        return self.world.told(values)

    def summed(self, terms: list[tuple[int, int, dict[str, float]]], measure: Any) -> dict[str, float]:
        """The figures. Raises InputError where no picture could be read."""
        sums: dict[str, float] = {}
        for _, count, losses in terms:
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value * count
        images = sum(count for _, count, _ in terms)
        if not images:
            raise InputError("none of the pictures to validate on can be read", where=next(iter(self.loader.dataset.bad.values())).where)
        means = {name: value / images for name, value in sums.items()}
        values = {"val_loss": sum(means.values())} if means else {}  # what is fitted has no loss
        values |= {f"val_{name}": value for name, value in means.items()}
        return values | measure.compute()


class _Precision:
    """AP of boxes."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.boxes = dataset, list[dict[str, Any]]()

    def update(self, index: int, result: Any, place: Place) -> None:
        self.boxes += [a | {"image_id": index + 1} for a in of_result(result, self.dataset.categories)]

    def compute(self) -> dict[str, float]:
        return average_precision(self.dataset, self.boxes)

    def found(self) -> list[dict[str, Any]]:
        return self.boxes

    def join(self, found: list[dict[str, Any]]) -> None:
        self.boxes = sorted(self.boxes + found, key=lambda box: box["image_id"])  # those of a picture stay in their order


class _Overlap:
    """mIoU of label maps, against the truth before any resizing."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.metric = dataset, MeanIoU(len(dataset.categories))

    def update(self, index: int, result: Any, place: Place) -> None:
        truth = self.dataset.target(self.dataset.records[index], place.height, place.width)
        self.metric.update(result.labels.cpu(), truth.labels)  # type: ignore[attr-defined]

    def compute(self) -> dict[str, float]:
        return {f"val_{name}": value for name, value in self.metric.compute().items()}

    def found(self) -> Any:
        return self.metric.confusion

    def join(self, found: Any) -> None:
        self.metric.confusion += found


class _Hits:
    """Accuracy, top-5 where there are more classes, and balanced accuracy."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.metric, self.confusion = dataset, Accuracy(len(dataset.categories)), Confusion(len(dataset.categories))

    def update(self, index: int, result: Any, place: Place) -> None:
        truth = self.dataset.target(self.dataset.records[index], place.height, place.width)
        best, true = result.labels.tolist(), int(truth.labels[0])  # type: ignore[attr-defined]
        self.metric.update(best, true)
        self.confusion.update(best[0] if best else None, true)

    def compute(self) -> dict[str, float]:
        balanced = {name: value for name, value in self.confusion.compute().items() if name == "balanced_accuracy"}
        return {f"val_{name}": value for name, value in (self.metric.compute() | balanced).items()}

    def found(self) -> Any:
        hits = self.metric
        return (hits.right, hits.near, hits.count, hits.longest), self.confusion.matrix

    def join(self, found: Any) -> None:
        (right, near, count, longest), matrix = found
        hits = self.metric
        hits.right, hits.near, hits.count, hits.longest = hits.right + right, hits.near + near, hits.count + count, max(hits.longest, longest)
        self.confusion.matrix += matrix


class _Likeness:
    """What embeddings know of the pictures' classes, whether they were learned from them or not."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.rows = dataset, dict[int, tuple[np.ndarray, str]]()

    def update(self, index: int, result: Any, place: Place) -> None:
        labels = self.dataset.records[index].get("labels") or []
        if len(labels) == 1:
            self.rows[index] = result.vector.cpu().numpy(), str(labels[0].get("category", labels[0].get("category_id")))

    def compute(self) -> dict[str, float]:
        if not self.rows:
            return {}
        rows = [self.rows[index] for index in sorted(self.rows)]
        _, labels = np.unique([name for _, name in rows], return_inverse=True)
        found = probed(np.stack([vector for vector, _ in rows]), labels)
        return {f"val_{name}": value for name, value in found.items()}

    def found(self) -> dict[int, tuple[np.ndarray, str]]:
        return self.rows

    def join(self, found: dict[int, tuple[np.ndarray, str]]) -> None:
        self.rows |= found


class _Reading:
    """Texts as they stand: the share of those read without an error, and the rate of errors."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.texts = dataset, dict[int, tuple[str, str]]()

    def update(self, index: int, result: Any, place: Place) -> None:
        self.texts[index] = text_of(self.dataset.records[index]), said(result)

    def compute(self) -> dict[str, float]:
        true, found = zip(*(self.texts[index] for index in sorted(self.texts)), strict=True)
        rates = {"word_accuracy": word_accuracy.of_texts(true, found), "CER": cer.of_texts(true, found)}
        return {f"val_{name}": float(rate.above.sum() / max(1.0, rate.below.sum())) for name, rate in rates.items()}

    def found(self) -> dict[int, tuple[str, str]]:
        return self.texts

    def join(self, found: dict[int, tuple[str, str]]) -> None:
        self.texts |= found


def said(result: Any) -> str:
    """What was read: a picture's string, or of regions their texts from left to right."""
    if isinstance(result, Text):
        return result.text
    lefts = result.quads[:, :, 0].amin(1).tolist()
    return " ".join(text for _, text in sorted(zip(lefts, result.texts or (), strict=True)) if text)


class _Regions:
    """Regions of text, in the pictures' own pixels."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.sums = dataset, np.zeros(4)

    def update(self, index: int, result: Any, place: Place) -> None:
        truth, result = quads_of(self.dataset.records[index]), result.numpy()
        true = icdar.Regions([*truth.quads.numpy()], list(truth.texts or ()), truth.spared.tolist())
        said = icdar.Regions([*result.quads], [None] * len(result), [False] * len(result), result.scores.tolist())
        self.sums += icdar.counts(true, said)[0]

    def compute(self) -> dict[str, float]:
        return {f"val_{name}": float(value[0]) for name, value in icdar.figures(self.sums[None], read=False).items()}

    def found(self) -> np.ndarray:
        return self.sums

    def join(self, found: np.ndarray) -> None:
        self.sums = self.sums + found


class _Nothing:
    """What is learned from pictures alone has no truth to be measured by."""

    def __init__(self, dataset: Dataset) -> None: ...

    def update(self, index: int, result: Any, place: Place) -> None: ...

    def compute(self) -> dict[str, float]:
        return {}

    def found(self) -> None: ...

    def join(self, found: None) -> None: ...


# each with what it has `found`, which another process's can `join`
MEASURES: dict[str, Callable[[Dataset], Any]] = {
    "boxes": _Precision,
    "semantic": _Overlap,
    "labels": _Hits,
    "vectors": _Likeness,
    "text": _Reading,
    "quads": _Regions,
    "pictures": _Nothing,
}


def average_precision(dataset: Dataset, found: list[dict[str, Any]]) -> dict[str, float]:
    """The COCO metrics of detections whose `image_id` counts the data set's pictures from 1; what could not be measured is left out."""
    from cvtool.metrics.coco import evaluate

    values = evaluate(truth(dataset), found, iou_type="bbox")
    return {key: float(value) for key, value in values.items() if isinstance(value, (int, float)) and math.isfinite(value)}


def truth(dataset: Dataset) -> dict[str, Any]:
    """A COCO document of the annotations, crowds included, with the training categories' ids; without pictures that could not be read."""
    kept: list[dict[str, Any]] = []
    read = [(number, record) for number, record in enumerate(dataset.records, 1) if number - 1 not in dataset.bad]
    for number, record in read:
        for a in record.get("annotations") or ():
            if "bbox" in a:
                category = dataset.categories[dataset.label(a, record)]
                area = a.get("area") or a["bbox"][2] * a["bbox"][3]
                kept.append({"iscrowd": 0} | a | {"id": len(kept) + 1, "image_id": number, "area": area, "category_id": category["id"]})
    images = [{"id": i, **{key: r[key] for key in ("file_name", "width", "height") if key in r}} for i, r in read]
    return {"info": {}, "images": images, "annotations": kept, "categories": [c for c in dataset.categories if c is not None]}
