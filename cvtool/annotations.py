"""A model's results as COCO annotations: boxes, masks, keypoints, classes of pictures and of pixels, regions of text.

Pixels are rounded to a thousandth; scores keep every digit of their float32.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from cvtool.categories import Categories
from cvtool.errors import ModelError
from cvtool.results import Boxes, Instances, Labels, Quads, Result, SemanticMap

TEXT = {"id": 1, "name": "text"}  # the category of a region of text


def of_result(result: Result, categories: Categories, *, classes: Collection[int] | None = None) -> list[dict[str, Any]]:
    """A typed result in the original's pixels -> COCO annotations, best score first as the model gave them.

    Boxes and Instances give one a found object, a SemanticMap one RLE a class present (without score), Labels one
    `{"category_id", "category", "score"}` a class. Objects of a category that is None in `categories` are dropped, as are those whose
    category id is not in `classes`. Masks become COCO's compressed RLE, counts as text. Raises ModelError for NaN.
    """
    import numpy as np

    result = result.numpy()
    if classes is not None:
        categories = [category if category is not None and category["id"] in classes else None for category in categories]
    if isinstance(result, SemanticMap):
        return _semantic(np.asarray(result.labels), categories)
    if isinstance(result, (Boxes, Labels)):
        indices = np.asarray(result.labels).astype(np.int64).reshape(-1)
        keep = np.flatnonzero((indices >= 0) & (indices < len(categories)))
        keep = keep[np.array([category is not None for category in categories], dtype=bool)[indices[keep]]]
        found = [{"category_id": categories[i]["id"], "category": categories[i]["name"]} for i in indices[keep].tolist()]
        if result.scores is not None:
            for entry, score in zip(found, exact(np.asarray(result.scores)[keep]), strict=True):
                entry["score"] = score
        if isinstance(result, Boxes):
            _add_boxes(found, result, keep)
        return found
    raise TypeError(f"{type(result).__name__} has no annotations")


def exact(scores: Any) -> list[float]:
    """float32 scores as the shortest decimals that read back as the same float32."""
    import numpy as np

    _finite(scores, "a score")
    return np.asarray(scores, dtype=np.float32).astype("U32").astype(np.float64).tolist() if len(scores) else []


def _finite(values: Any, what: str) -> None:
    import numpy as np

    if not np.isfinite(values).all():
        raise ModelError(f"the model gave {what} that is NaN or infinite", hint="its weights are damaged, or fp16 is too narrow for it")


def _add_boxes(found: list[dict[str, Any]], result: Boxes, keep: Any) -> None:
    """bbox, area, iscrowd and, for Instances, segmentation and keypoints, into `found`."""
    import numpy as np

    boxes = np.asarray(result.boxes, dtype=np.float64).reshape(-1, 4)[keep].round(3)  # corners first, so that x + w stays inside the picture
    _finite(boxes, "a box")
    wide = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).round(3)
    areas = (wide[:, 2] * wide[:, 3]).round(3).tolist()
    found[:] = [{"bbox": box, **entry, "area": area, "iscrowd": 0} for entry, box, area in zip(found, wide.tolist(), areas, strict=True)]
    if result.crowd is not None:
        for entry, crowd in zip(found, np.asarray(result.crowd)[keep].tolist(), strict=True):
            entry["iscrowd"] = int(crowd)
    if not isinstance(result, Instances):
        return
    if result.masks is not None:
        masks = np.asarray(result.masks)
        for entry, i in zip(found, keep.tolist(), strict=True):
            entry["segmentation"], entry["area"] = rle(masks[i])
    if result.keypoints is not None:
        points = np.asarray(result.keypoints, dtype=np.float64)[keep].round(3)
        _finite(points, "a keypoint")
        for entry, object_points in zip(found, points.tolist(), strict=True):
            entry["keypoints"] = [value for x, y, v in object_points for value in (x, y, int(v))]
            entry["num_keypoints"] = sum(v > 0 for _, _, v in object_points)
    if result.keypoint_scores is not None:
        for entry, scores in zip(found, np.asarray(result.keypoint_scores, dtype=np.float64)[keep].round(4).tolist(), strict=True):
            entry["keypoint_scores"] = scores


def regions(result: Quads) -> list[dict[str, Any]]:
    """Regions of text as COCO annotations: corners as a polygon of four points, `text` where it is known. Raises ModelError for NaN."""
    import numpy as np

    result = result.numpy()
    corners = np.asarray(result.quads, dtype=np.float64).reshape(-1, 4, 2).round(3)
    _finite(corners, "a corner")
    low, high = corners.min(1), corners.max(1)
    boxes = np.concatenate([low, high - low], 1).round(3).tolist()
    x, y = corners[..., 0], corners[..., 1]
    areas = (0.5 * np.abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1))).round(3).tolist()
    scores = [None] * len(boxes) if result.scores is None else exact(result.scores)
    found = []
    for box, ring, area, score, text in zip(boxes, corners.reshape(-1, 8).tolist(), areas, scores, result.texts or [None] * len(boxes), strict=True):
        entry = {"bbox": box, "category_id": TEXT["id"], "category": TEXT["name"], "segmentation": [ring], "area": area, "iscrowd": 0}
        found.append(entry | ({} if score is None else {"score": score}) | ({} if text is None else {"text": text}))
    return found


def rle(mask: Any) -> tuple[dict[str, Any], int]:
    """An H W mask (bool or 0/1) as COCO's compressed RLE with its counts as text, and its area in pixels."""
    import numpy as np
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(np.asarray(mask, dtype=bool).view(np.uint8)))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}, int(coco.area(encoded))


def _semantic(labels: Any, categories: Categories) -> list[dict[str, Any]]:
    import numpy as np
    from pycocotools import mask as coco

    counts = np.bincount(np.clip(labels, -1, len(categories)).ravel() + 1)[1 : len(categories) + 1]  # sorts nothing, as np.unique would
    found = []
    for index in np.flatnonzero(counts).tolist():
        if (category := categories[index]) is not None:
            encoded, area = rle(labels == index)
            box = coco.toBbox({"size": encoded["size"], "counts": encoded["counts"].encode("ascii")}).tolist()
            entry = {"bbox": box, "category_id": category["id"], "category": category["name"], "segmentation": encoded}
            found.append(entry | {"area": area, "iscrowd": 0})
    return found
