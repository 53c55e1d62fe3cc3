"""Average precision by LVIS, for many classes of which each image was searched for a few only (Gupta 2019, arXiv:1908.03195, section 3).

COCO's protocol with the differences of lvis-api: an image's `neg_category_ids` are classes known not to be there, and a detection of a class that is
neither among them nor marked in the image does not count; where a class is in `not_exhaustive_category_ids` a detection that finds nothing is
ignored; the best 300 detections of an image count, over all classes; there are no crowds. APr, APc and APf are the means over classes that are rare,
common and frequent.
"""

from __future__ import annotations

import numpy as np

from cvtool.errors import InputError, UsageError
from cvtool.metrics._matching import AREAS, THRESHOLDS, average, coco_like, mean
from cvtool.metrics._objects import Objects, Part
from cvtool.metrics._overlaps import Table

KIND = "objects"
KEYS = {
    "AP": "average precision by LVIS, overlap 0.50 to 0.95",
    "AP50": "the same, overlap of 0.50 or more",
    "AP75": "the same, overlap of 0.75 or more",
    "APs": "average precision of small objects, under 32 x 32 pixels",
    "APm": "average precision of medium objects, 32 x 32 to 96 x 96",
    "APl": "average precision of large objects, over 96 x 96",
    "APr": "average precision of rare classes, in fewer than 10 training images",
    "APc": "average precision of common classes, in 10 to 99",
    "APf": "average precision of frequent classes, in 100 or more",
    "AR300": "average recall, the best 300 detections of an image",
    "ARs": "average recall of small objects",
    "ARm": "average recall of medium objects",
    "ARl": "average recall of large objects",
}
GROUPS = ("r", "c", "f")


def of_objects(objects: Objects, *, max_det: int = 300) -> Part:
    """max_det: detections an image, over all classes."""
    if max_det < 1:
        raise UsageError(f"--metric lvis: max_det is at least 1, not {max_det}")
    table = Table(objects, ("bbox", "segm", "boundary"))
    groups = _groups(table)
    kept, lenient = _federated(table, max_det)
    ranking = coco_like(table, crowds=False, limit=None, kept=kept, lenient=lenient)
    names, half, high = list(AREAS), 0, int(np.flatnonzero(np.isclose(THRESHOLDS, 0.75))[0])

    def many(weights: np.ndarray | None) -> dict[str, np.ndarray]:
        precision, recall = average(ranking, weights, AREAS)  # B A T K
        values = {"AP": precision[:, 0], "AP50": precision[:, 0, half], "AP75": precision[:, 0, high]}
        values |= {f"AP{name[0]}": precision[:, a] for a, name in enumerate(names) if a}
        values |= {f"AP{group}": precision[:, 0][:, :, groups == group] for group in GROUPS}
        values |= {f"AR{max_det}": recall[:, 0]} | {f"AR{name[0]}": recall[:, a] for a, name in enumerate(names) if a}
        return {key: mean(cells) for key, cells in values.items()}

    precision = average(ranking, None, AREAS)[0][0, 0]  # T K
    single = mean(precision.T)
    rows = {name: {"AP": float(single[k])} for k, name in enumerate(table.names)}
    dropped = int((~kept).sum())
    return Part(
        metrics={key: float(value[0]) for key, value in many(None).items()},
        per_class=rows,
        params={"lvis": {"max_det": max_det, "classes": {group: int((groups == group).sum()) for group in GROUPS}}},
        extra={"lvis": {"detections_not_judged": dropped, "frequency": dict(zip(table.names, groups.tolist(), strict=True))}},
        many=many,
    )


def _groups(table: Table) -> np.ndarray:
    """K letters: rare, common or frequent. Raises InputError where the ground truth does not say."""
    found = []
    for category, name in zip(table.categories, table.names, strict=True):
        if (letter := category.get("frequency")) not in GROUPS:
            what = "no frequency" if letter is None else f"the frequency {letter!r}"
            raise InputError(
                f"the category {name} has {what}, and LVIS needs r, c or f of each", hint="--metric coco for ground truth of COCO's kind"
            )
        found.append(letter)
    return np.array(found, dtype="U1")


def _federated(table: Table, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """(detections that count, detections that are ignored where they are wrong), D each."""
    gt, dt, k = table.gt, table.dt, len(table.categories)
    labels = {category["id"]: label for label, category in enumerate(table.categories)}
    listed: dict[str, list[int]] = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    for n, image in enumerate(table.images):
        for key, pairs in listed.items():
            if not isinstance(image.get(key), list):
                raise InputError(f"image {image['id']} has no {key}, and LVIS needs them", hint="--metric coco for ground truth of COCO's kind")
            pairs += [n * k + labels[category] for category in image[key] if category in labels]
    judged = np.concatenate([listed["neg_category_ids"], gt.image * k + gt.label]).astype(int)
    pairs = dt.image * k + dt.label
    kept, lenient = np.isin(pairs, judged), np.isin(pairs, np.array(listed["not_exhaustive_category_ids"], int))
    for picture in table.pictures():
        kept[picture.found[limit:]] = False
    return kept, lenient
