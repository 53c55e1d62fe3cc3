"""COCO's average precision of masks whose overlap is the smaller of the masks' and of their boundaries' (Cheng 2021, arXiv:2103.16562, section 5)."""

from __future__ import annotations

import numpy as np

from cvtool.errors import UsageError
from cvtool.metrics._matching import AREAS, THRESHOLDS, average, coco_like, mean
from cvtool.metrics._objects import Objects, Part
from cvtool.metrics._overlaps import Table
from cvtool.metrics._ranking import Ranking
from cvtool.metrics.boundary_iou import DILATION


def of_objects(objects: Objects) -> Part:
    """The keys of COCO's summary, per class too; nan where nothing can be measured."""
    if objects.backend != "auto":
        raise UsageError(f"--backend {objects.backend} has no effect on --iou-type boundary", hint="it is for bbox, segm and keypoints")
    table = Table(objects, ("boundary",))
    limits = list(objects.limits)
    ranking = coco_like(table, limit=limits[-1])
    first = {limit: _only(ranking, _places(table) < limit) for limit in limits[:-1]}
    high = int(np.flatnonzero(np.isclose(THRESHOLDS, 0.75))[0])
    names = list(AREAS)

    def cells(weights: np.ndarray | None) -> dict[str, np.ndarray]:
        """B T' K values a key."""
        precision, recall = average(ranking, weights, AREAS)  # B A T K
        values = {"AP": precision[:, 0], "AP50": precision[:, 0, :1], "AP75": precision[:, 0, high : high + 1]}
        values |= {f"AP{name[0]}": precision[:, a] for a, name in enumerate(names) if a}
        values |= {f"AR{limit}": average(few, weights, {"all": AREAS["all"]})[1][:, 0] for limit, few in first.items()}
        values |= {f"AR{limits[-1]}": recall[:, 0]}
        return values | {f"AR{name[0]}": recall[:, a] for a, name in enumerate(names) if a}

    every = cells(None)
    return Part(
        metrics={key: float(mean(values)[0]) for key, values in every.items()},
        per_class={name: {key: float(mean(values[0][None, :, k])[0]) for key, values in every.items()} for k, name in enumerate(table.names)},
        params={
            "max_dets": limits,
            "iou_thresholds": [round(float(t), 6) for t in THRESHOLDS],
            "area_ranges": {key: list(bounds) for key, bounds in AREAS.items()},
            "boundary_dilation": DILATION,
        },
        many=lambda weights: {key: mean(values) for key, values in cells(weights).items()},
    )


def _places(table: Table) -> np.ndarray:
    """D: the place of each detection among those of its image and class, by falling score."""
    dt = table.dt
    order = np.lexsort((-dt.score, dt.label, dt.image))
    group = dt.image[order] * max(1, len(table.categories)) + dt.label[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    out = np.empty(len(order), int)
    out[order] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return out


def _only(ranking: Ranking, kept: np.ndarray) -> Ranking:
    """The first area's conditions, of some detections: a greedy matching's beginning is the matching of its first detections."""
    t = len(THRESHOLDS)
    return Ranking(
        ranking.images, ranking.classes, ranking.score, ranking.image, ranking.label, ranking.right[:t] & kept, ranking.wrong[:t] & kept,
        ranking.object_image, ranking.object_label, ranking.counted[:t],
    )  # fmt: skip
