"""COCO's average precision and recall of boxes, masks and keypoints (Lin 2014, arXiv:1405.0312; protocol of cocodataset.org).

Two engines fill the same arrays bit for bit: hotcoco (Rust) and, where it is missing, pycocotools, the reference. The means over
those arrays are taken here, so that a limit on detections other than 100 is scored instead of answered with -1, and so that both
engines end in the same last bit. Nothing here checks its input; `cvtool.tasks.evaluate` does.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvtool.errors import InputError, MissingDependency, UsageError

KIND = "objects"
ALIASES = ("ap", "map-coco")
KEYS = {
    "AP": "average precision, overlap 0.50 to 0.95",
    "AP50": "average precision, overlap of 0.50 or more",
    "AP75": "average precision, overlap of 0.75 or more",
    "APs": "average precision, small objects, under 32 x 32 pixels",
    "APm": "average precision, medium objects, 32 x 32 to 96 x 96",
    "APl": "average precision, large objects, over 96 x 96",
    "AR": "average recall, overlap 0.50 to 0.95 (keypoints)",
    "AR1": "average recall, the best detection of an image and class",
    "AR10": "average recall, the best 10 detections of an image and class",
    "AR100": "average recall, the best 100 detections of an image and class",
    "ARs": "average recall, small objects, under 32 x 32 pixels",
    "ARm": "average recall, medium objects, 32 x 32 to 96 x 96",
    "ARl": "average recall, large objects, over 96 x 96",
}
IOU_TYPES = ("bbox", "segm", "keypoints")
BACKENDS = ("auto", "hotcoco", "pycocotools")
KEYPOINTS = 17  # COCO publishes fall-off constants (sigmas) for its 17 body points and for no others


@dataclass(frozen=True)
class Scores:
    """The arrays of one evaluation. T: IoU thresholds, R: recall levels, K: categories, A: area ranges, M: detection limits.

    -1 marks a cell with nothing to measure: no ground truth of that category and area.
    """

    iou_type: str
    precision: np.ndarray  # T R K A M float64
    recall: np.ndarray  # T K A M float64
    scores: np.ndarray  # T R K A M float64: the confidence at which a recall level is reached
    categories: list[dict]  # K, in the order of the arrays
    iou_thresholds: list[float]  # T
    areas: dict[str, list[float]]  # A: name -> [smallest, largest] in square pixels
    max_dets: list[int]  # M, ascending: detections counted an image and category
    backend: str  # name and version

    def summary(self, category: int | None = None) -> dict[str, float]:
        """The field's numbers in the field's order, as fractions; nan where nothing could be measured.

        `category` is a position in `categories`; without it the mean runs over all of them.
        """
        last = self.max_dets[-1]
        values = {"AP": self._precision(category), "AP50": self._precision(category, iou=0.5), "AP75": self._precision(category, iou=0.75)}
        values |= {f"AP{area[0]}": self._precision(category, area=area) for area in self.areas if area != "all"}
        if self.iou_type == "keypoints":
            values |= {"AR": self._recall(category, last), "AR50": self._recall(category, last, iou=0.5)}
            values |= {"AR75": self._recall(category, last, iou=0.75)}
        else:
            values |= {f"AR{limit}": self._recall(category, limit) for limit in self.max_dets}
        return values | {f"AR{area[0]}": self._recall(category, last, area=area) for area in self.areas if area != "all"}

    def per_class(self) -> dict[str, dict[str, float]]:
        """`summary` of every category by its name; where two share a name, the id is added."""
        names = [str(c.get("name", c["id"])) for c in self.categories]
        unique = [name if names.count(name) == 1 else f"{name} ({c['id']})" for name, c in zip(names, self.categories, strict=True)]
        return {name: self.summary(k) for k, name in enumerate(unique)}

    def _precision(self, category: int | None, *, iou: float | None = None, area: str = "all") -> float:
        return _mean(self._thresholds(self.precision, iou)[:, :, _pick(category), list(self.areas).index(area), -1])

    def _recall(self, category: int | None, limit: int, *, iou: float | None = None, area: str = "all") -> float:
        cells = self._thresholds(self.recall, iou)[:, _pick(category), list(self.areas).index(area), self.max_dets.index(limit)]
        return _mean(cells)

    def _thresholds(self, array: np.ndarray, iou: float | None) -> np.ndarray:
        return array if iou is None else array[[t for t, value in enumerate(self.iou_thresholds) if math.isclose(value, iou)]]


def _pick(category: int | None) -> slice:
    return slice(None) if category is None else slice(category, category + 1)


def _mean(cells: np.ndarray) -> float:
    measured = cells[cells > -1]  # same order and same summation as pycocotools, hence the same last bit
    return float(np.mean(measured)) if measured.size else math.nan


def evaluate(
    gt: dict,
    dt: list[dict],
    iou_type: str = "bbox",
    *,
    backend: str = "auto",
    max_dets: Sequence[int] | int | None = None,
    per_class: bool = False,
    arrays: bool = False,
) -> dict[str, Any]:
    """Scores detections against ground truth; a flat dict of fractions in [0, 1], nan where nothing could be measured.

    gt: a COCO document (`images`, `annotations`, `categories`); annotation ids may repeat or be 0, they are not used.
    dt: COCO results: `image_id`, `category_id`, `score` and `bbox` (xywh), `segmentation` (RLE) or `keypoints`. May be empty.
    max_dets: the limits of detections an image and category; N alone means (1, 10, N), for keypoints (N,).
    per_class: adds "per_class.NAME.AP" and so on. arrays: adds "precision", "recall" and "scores" as numpy arrays (see `Scores`).
    """
    result = score(gt, dt, iou_type, backend=backend, max_dets=max_dets)
    values: dict[str, Any] = result.summary()
    if per_class:
        values |= {f"per_class.{name}.{key}": value for name, row in result.per_class().items() for key, value in row.items()}
    if arrays:
        values |= {"precision": result.precision, "recall": result.recall, "scores": result.scores}
    return values


def score(
    gt: Any,
    dt: Any,
    iou_type: str = "bbox",
    *,
    backend: str = "auto",
    max_dets: Sequence[int] | int | None = None,
    category_ids: Sequence[int] | None = None,
) -> Scores:
    """As `evaluate`, but returns all that was measured. `category_ids` leaves only those categories.

    With hotcoco, `gt` and `dt` may also be its own COCO objects: the way in for files that its parser has read already.
    """
    if iou_type not in IOU_TYPES:
        raise UsageError(f"unknown IoU type '{iou_type}'", hint=f"known: {', '.join(IOU_TYPES)}")
    if backend not in BACKENDS:
        raise UsageError(f"unknown evaluation backend '{backend}'", hint=f"known: {', '.join(BACKENDS)}")
    limits = limits_of(max_dets, iou_type)
    engine = _with_pycocotools if pick_backend(backend) == "pycocotools" else _with_hotcoco
    return engine(gt, dt, iou_type, limits, category_ids)


def limits_of(max_dets: Sequence[int] | int | None, iou_type: str) -> list[int]:
    """The ascending limits of detections an image and category: COCO's own without `max_dets`; the last one bounds AP."""
    if max_dets is None:
        return [20] if iou_type == "keypoints" else [1, 10, 100]
    if isinstance(max_dets, int):
        max_dets = [max_dets] if iou_type == "keypoints" else [limit for limit in (1, 10) if limit < max_dets] + [max_dets]
    if not max_dets or min(max_dets) < 1:
        raise UsageError(f"the limit of detections must be at least 1, not {min(max_dets, default=0)}")
    return sorted(set(max_dets))


def pick_backend(backend: str = "auto") -> str:
    """ "hotcoco" or "pycocotools": the one asked for, else the faster one that is installed."""
    from importlib.util import find_spec

    wanted = ("hotcoco", "pycocotools") if backend == "auto" else (backend,)
    for name in wanted:
        if find_spec(name):
            return name
    raise MissingDependency(f"COCO evaluation needs {' or '.join(wanted)}", hint=f"pip install {wanted[0]}")


def _check_keypoints(categories: list[dict], annotations: list[dict], dt: Any) -> None:
    for category in categories:
        named = category.get("keypoints")
        if named is not None and len(named) != KEYPOINTS:
            raise _other_keypoints(f"category '{category.get('name', category['id'])}' has {len(named)}")
    for what, entries in (("an annotation", annotations), ("a detection", dt if isinstance(dt, list) else ())):
        counts = {len(points) // 3 for entry in entries if (points := entry.get("keypoints"))} - {KEYPOINTS}
        if counts:
            raise _other_keypoints(f"{what} has {min(counts)}")


def _other_keypoints(what: str) -> InputError:
    return InputError(
        f"keypoint evaluation is defined for COCO's {KEYPOINTS} body points: {what}",
        hint="object keypoint similarity needs a published fall-off constant for every point, and COCO has them for these only",
    )


def _with_hotcoco(gt: Any, dt: Any, iou_type: str, limits: list[int], category_ids: Sequence[int] | None) -> Scores:
    import hotcoco

    if iou_type == "keypoints":
        document = gt if isinstance(gt, dict) else {"categories": list(gt.cats.values()), "annotations": gt.load_anns(gt.get_ann_ids())}
        _check_keypoints(document.get("categories", []), document["annotations"], dt)
    try:
        truth, scorer = _hotcoco_scorer(gt, dt, iou_type, limits, category_ids)
        scorer.evaluate()
        scorer.accumulate()
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"the annotations cannot be scored: {error}") from error
    params, cells, table = scorer.params, scorer.eval or {}, truth.cats
    ids = params.cat_ids or sorted(table)
    return Scores(
        iou_type=iou_type,
        precision=cells["precision"],
        recall=cells["recall"],
        scores=cells["scores"],
        categories=[table[i] for i in ids],
        iou_thresholds=[float(t) for t in params.iou_thrs],
        areas={name: list(bounds) for name, bounds in zip(params.area_rng_lbl, params.area_rng, strict=True)},
        max_dets=list(limits),
        backend=f"hotcoco {hotcoco.__version__}",
    )


def _hotcoco_scorer(gt: Any, dt: Any, iou_type: str, limits: Sequence[int], category_ids: Sequence[int] | None) -> tuple[Any, Any]:
    import hotcoco

    truth = hotcoco.COCO(_ready(gt)) if isinstance(gt, dict) else gt
    found = truth.load_res(dt) if isinstance(dt, list) else dt
    scorer = hotcoco.COCOeval(truth, found, iou_type)
    scorer.params.max_dets = list(limits)
    if category_ids is not None:
        scorer.params.cat_ids = sorted(category_ids)
    return truth, scorer


def matcher(
    gt: Any, dt: Any, iou_type: str, limits: Sequence[int], category_ids: Sequence[int] | None = None, backend: str = "auto"
) -> tuple[Any, list[int]]:
    """(an engine that has both sides and can be told which images to match, the images' ids in the order of the ground truth)."""
    if pick_backend(backend) == "pycocotools":
        _, scorer = _pycocotools_scorer(gt, dt, iou_type, limits, category_ids)
        return scorer, [image["id"] for image in gt["images"]]
    truth, scorer = _hotcoco_scorer(gt, dt, iou_type, limits, category_ids)
    return scorer, [image["id"] for image in gt["images"]] if isinstance(gt, dict) else list(truth.imgs)


def _ready(gt: dict) -> dict:
    """The document as hotcoco reads it without a line on stderr: categories named, annotation ids unique and not 0."""
    categories, annotations = gt.get("categories", []), gt["annotations"]
    ids = {a.get("id", 0) for a in annotations}
    if len(ids) < len(annotations) or 0 in ids:
        annotations = [{**a, "id": i} for i, a in enumerate(annotations, 1)]
    if not all("name" in c for c in categories):
        categories = [{"name": str(c["id"]), **c} for c in categories]
    return {**gt, "categories": categories, "annotations": annotations}


def _with_pycocotools(gt: dict, dt: list[dict], iou_type: str, limits: list[int], category_ids: Sequence[int] | None) -> Scores:
    from importlib.metadata import version

    if iou_type == "keypoints":
        _check_keypoints(gt.get("categories", []), gt["annotations"], dt)
    with contextlib.redirect_stdout(io.StringIO()):
        truth, scorer = _pycocotools_scorer(gt, dt, iou_type, limits, category_ids)
        scorer.evaluate()
        scorer.accumulate()
    params, cells = scorer.params, scorer.eval
    return Scores(
        iou_type=iou_type,
        precision=cells["precision"],
        recall=cells["recall"],
        scores=cells["scores"],
        categories=[truth.cats[i] for i in params.catIds],
        iou_thresholds=[float(t) for t in params.iouThrs],
        areas={name: [float(b) for b in bounds] for name, bounds in zip(params.areaRngLbl, params.areaRng, strict=True)},
        max_dets=list(limits),
        backend=f"pycocotools {version('pycocotools')}",
    )


def _pycocotools_scorer(gt: dict, dt: list[dict], iou_type: str, limits: Sequence[int], category_ids: Sequence[int] | None) -> tuple[Any, Any]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    # pycocotools counts a match with annotation id 0 as no match, wants "info", writes into the dicts it is given and prints
    numbered = [{"iscrowd": 0, **a, "id": i} for i, a in enumerate(gt["annotations"], 1)]
    truth, empty = COCO(), COCO()
    truth.dataset = {"info": {}, **gt, "annotations": numbered}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        if dt:
            found = truth.loadRes([dict(d) for d in dt])
        else:
            found = empty
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        scorer = COCOeval(truth, found, iou_type)
    scorer.params.maxDets = list(limits)
    if category_ids is not None:
        scorer.params.catIds = sorted(category_ids)
    return truth, scorer
