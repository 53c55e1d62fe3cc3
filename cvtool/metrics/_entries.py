"""Annotations one by one: what scoring needs is there and finite, what can be repaired is, and each repair is a line of text.

Checked entries are new dicts that hold only what the engines read; those that were given are never changed.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cvtool.errors import InputError

Name = Callable[[int], str]  # the position of an entry -> its name in a message
GEOMETRY = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}


class _Problems:
    """Collects what is wrong, so that the message can say how often and where first."""

    def __init__(self, side: str) -> None:
        self.side = side
        self.found: dict[str, list[int]] = defaultdict(list)

    def add(self, what: str, i: int) -> None:
        self.found[what].append(i)

    def stop(self, name: Name) -> None:
        """Raises InputError for the reason that came first, naming its first entry and counting the others."""
        for what, where in self.found.items():
            count = f" ({len(where):,} such; the next: {', '.join(map(str, where[1:5]))})" if len(where) > 1 else ""
            raise InputError(f"{self.side} {what}{count}", where=name(where[0]))


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _numbers(values: Any, count: int | None = None) -> bool:
    return isinstance(values, (list, tuple)) and (count is None or len(values) == count) and all(map(is_number, values))


def _is_box(box: Any) -> bool:
    """Four finite numbers; asked half a million times, hence the sum instead of four questions."""
    try:
        return type(box) in (list, tuple) and len(box) == 4 and math.isfinite(box[0] + box[1] + box[2] + box[3])
    except TypeError:
        return False


def ground_truth(
    entries: Sequence[dict], images: Sequence[int | None], categories: Sequence[Any], sizes: Mapping[int, tuple[int, int]], iou_type: str, name: Name
) -> tuple[list[dict], list[str]]:
    """(annotations ready to score, warnings).

    images, categories: for each entry its image's and its category's number, None where the file's tables lack it. sizes: image number ->
    (height, width), for polygons. Raises InputError naming the first entry of the first problem.
    """
    problems = _Problems("a ground-truth annotation")
    ready: list[dict] = []
    orphans, strangers, ids = [], [], []
    no_area = flat = ignored = 0
    for i, entry in enumerate(entries):
        if images[i] is None:
            orphans.append(entry.get("image_id"))
            continue
        if categories[i] is None:
            strangers.append(entry.get("category_id"))
            continue
        ids.append(entry.get("id"))
        item: dict[str, Any] = {"id": len(ready) + 1, "image_id": images[i], "category_id": categories[i], "iscrowd": int(bool(entry.get("iscrowd")))}
        if entry.get("difficult") or entry.get("ignore"):
            item["difficult"] = 1  # VOC's word and not COCO's, whose engines pass over it
        _geometry(entry, item, iou_type, sizes.get(images[i]), problems, i)  # type: ignore[arg-type]
        area = entry.get("area")
        if area is None:
            no_area += 1
            area = _area(item, sizes.get(images[i]))  # type: ignore[arg-type]
        elif not is_number(area):
            problems.add("has an area that is no finite number", i)
        item["area"] = area
        if (box := item.get("bbox")) and min(box[2:]) <= 0:
            flat += 1
        ignored += bool(entry.get("ignore")) and not item["iscrowd"]
        ready.append(item)
    problems.stop(name)
    warnings = []
    given = [key for key in ids if key is not None]
    if 0 in given:
        warnings.append("annotation id 0 in the ground truth (pycocotools counts a match with it as a miss): annotations were renumbered from 1")
    if len(set(map(str, given))) < len(given):
        double = next(key for key, count in Counter(map(str, given)).items() if count > 1)
        warnings.append(f"annotation ids repeat in the ground truth, such as {double}: annotations were renumbered from 1")
    if orphans:
        warnings.append(f"{len(orphans):,} ground-truth annotations left out, their images are not in the table of images: {_first(orphans)}")
    if strangers:
        what = "ground-truth annotations left out, their categories are not in the table of categories"
        warnings.append(f"{len(strangers):,} {what}: {_first(strangers)}")
    if no_area:
        warnings.append(f"{no_area:,} ground-truth annotations have no area: it was computed from the mask where there is one, else from the box")
    if ignored:
        warnings.append(f"{ignored:,} ground-truth annotations are marked 'ignore', which COCO's protocol does not read: it knows iscrowd only")
    if flat:
        warnings.append(f"{flat:,} ground-truth boxes have no width or no height: no detection can match them")
    return ready, warnings


def detections(
    entries: Sequence[dict],
    images: Sequence[int | None],
    categories: Sequence[Any],
    sizes: Mapping[int, tuple[int, int]],
    iou_type: str,
    name: Name,
    *,
    scored: bool = True,
) -> tuple[list[dict], list[str]]:
    """(results ready to score, warnings), in the order given, for ties are broken by it. Entries whose image or category is None are left out.

    scored: whether each must have a score; else none has one.
    """
    problems, ready = _Problems("a detection"), []
    low, high, negative, boxed = 0.0, 1.0, 0, 0
    with_boxes = iou_type == "keypoints" and all("bbox" in entry for entry in entries)  # then pycocotools takes areas from the boxes
    if scored and entries and not any("score" in entry for entry in entries):
        hint = "is this ground truth (--gt and --dt swapped?) or a semantic map, which has no scores?"
        raise InputError("the detections have no scores", where=name(0), hint=hint)
    wanted = GEOMETRY[iou_type]
    if entries and not any(wanted in entry or (iou_type == "bbox" and "segmentation" in entry) for entry in entries):
        other = next((kind for kind, key in GEOMETRY.items() if any(key in entry for entry in entries[:100])), None)
        advice = f"they hold what --iou-type {other} compares" if other else None
        raise InputError(f"the detections have no '{wanted}', which --iou-type {iou_type} compares", where=name(0), hint=advice)
    for i, entry in enumerate(entries):
        score = entry.get("score") if scored else 1.0
        if not is_number(score):
            problems.add("has no score" if score is None else f"has a score that is no finite number: {score!r}", i)
            continue
        if images[i] is None or categories[i] is None:
            continue
        item: dict[str, Any] = {"image_id": images[i], "category_id": categories[i], "score": score}
        if not scored:
            item["iscrowd"] = int(bool(entry.get("iscrowd")))
        _geometry(entry, item, iou_type, sizes.get(images[i]), problems, i, found=True)  # type: ignore[arg-type]
        if with_boxes:
            item["bbox"] = list(entry["bbox"])
            if not _is_box(item["bbox"]):
                problems.add(f"has a bbox that is not four finite numbers: {entry['bbox']!r}", i)
        low, high = min(low, float(score)), max(high, float(score))  # type: ignore[arg-type]
        boxed += iou_type == "segm" and "bbox" in entry
        negative += iou_type == "bbox" and "bbox" in item and min(item["bbox"][2:]) < 0
        ready.append(item)
    problems.stop(name)
    warnings = []
    if low < 0 or high > 1:
        warnings.append(f"scores lie outside [0, 1] (from {low:g} to {high:g}): only their order counts here")
    if negative:
        warnings.append(f"{negative:,} detected boxes have a negative width or height: boxes are x, y, width, height")
    if twice := _repeated(ready):
        warnings.append(
            f"{twice:,} detections repeat another one exactly, each of which counts as a false one: were two files of the same run joined?"
        )
    if boxed:
        warnings.append(f"{boxed:,} of the detections carry a box too: areas (APs, APm, APl) are taken from the masks, not from the boxes")
    return ready, warnings


def _repeated(results: Sequence[dict]) -> int:
    """How many entries are the same as an earlier one: image, category, score and shape."""
    seen = Counter((e["image_id"], e["category_id"], e["score"], str(e.get("bbox") or e.get("segmentation") or e.get("keypoints"))) for e in results)
    return len(results) - len(seen)


def beyond(results: Sequence[dict], limit: int) -> int:
    """Detections beyond the best `limit` of their image and category: COCO does not count them."""
    counts = Counter((entry["image_id"], entry["category_id"]) for entry in results)
    return sum(count - limit for count in counts.values() if count > limit)


# --- shapes ----------------------------------------------------------------------------------------------------------------------------------


def _geometry(entry: dict, item: dict, iou_type: str, size: tuple[int, int] | None, problems: _Problems, i: int, *, found: bool = False) -> None:
    """The checked shape from `entry` into `item`: in a detection only what is compared, in ground truth also what its area needs."""
    box, shape = entry.get("bbox"), entry.get("segmentation")
    for_area = not found and shape and entry.get("area") is None and (size is not None or isinstance(shape, dict))
    if iou_type == "segm" or for_area or (found and iou_type == "bbox" and box is None and shape):
        mask = _mask(shape, size, problems, i, as_rle=found)
        if mask is not None:
            item["segmentation"] = mask
    if iou_type == "segm":
        if not found and _is_box(box):
            item["bbox"] = box
        return
    if found and iou_type == "bbox" and box is None and "segmentation" in item:
        from pycocotools import mask as coco

        item["bbox"] = [float(v) for v in coco.toBbox(_encoded(item.pop("segmentation")))]
    elif found and iou_type == "keypoints":
        pass
    elif box is None:
        problems.add("has no bbox", i)
    elif not _is_box(box):
        problems.add(f"has a bbox that is not four finite numbers: {box!r}", i)
    else:
        item["bbox"] = list(box)
    if iou_type == "keypoints":
        points = entry.get("keypoints")
        if points is None:
            problems.add("has no keypoints", i)
        elif not _numbers(points) or len(points) % 3 or not points:
            problems.add("has keypoints that are not x, y, v triples of finite numbers", i)
        else:
            item["keypoints"] = list(points)
            if not found:
                visible = entry.get("num_keypoints")
                item["num_keypoints"] = visible if type(visible) is int else sum(v > 0 for v in points[2::3])


def _mask(shape: Any, size: tuple[int, int] | None, problems: _Problems, i: int, *, as_rle: bool) -> Any:
    """Polygons or RLE, checked; compressed RLE where `as_rle`. None and a problem noted where it is neither."""
    if shape is None or shape == []:
        problems.add("has no segmentation", i)
    elif isinstance(shape, list):
        if not all(isinstance(ring, list) and len(ring) >= 6 and len(ring) % 2 == 0 and _numbers(ring) for ring in shape):
            problems.add("has a segmentation that is no list of polygons (six or more finite numbers each)", i)
        elif size is None:
            problems.add("is a polygon in an image whose width and height the ground truth does not give", i)
        else:
            return _rasterised(shape, size) if as_rle else shape
    elif not isinstance(shape, dict) or not _numbers(shape.get("size"), 2) or not isinstance(shape.get("counts"), (str, bytes, list)):
        problems.add("has a segmentation that is neither polygons nor RLE (size and counts)", i)
    elif size is not None and tuple(shape["size"]) != size:
        problems.add(f"has a mask of {shape['size'][0]} x {shape['size'][1]} (height x width) in an image of {size[0]} x {size[1]}", i)
    elif isinstance(shape["counts"], list):
        runs = shape["counts"]
        if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != shape["size"][0] * shape["size"][1]:
            problems.add("has RLE counts that do not fill its size", i)
        else:
            return _compressed(shape) if as_rle else shape
    else:
        return shape
    return None


def _rasterised(polygons: list, size: tuple[int, int]) -> dict:
    from pycocotools import mask as coco

    return _as_text(coco.merge(coco.frPyObjects(polygons, *size)))


def _compressed(rle: dict) -> dict:
    from pycocotools import mask as coco

    return _as_text(coco.frPyObjects(rle, *rle["size"]))


def _as_text(rle: dict) -> dict:
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def _encoded(rle: dict) -> dict:
    return {"size": rle["size"], "counts": rle["counts"].encode("ascii") if isinstance(rle["counts"], str) else rle["counts"]}


def _area(item: dict, size: tuple[int, int] | None) -> float:
    """Square pixels: of the mask where there is one, else of the box."""
    shape = item.get("segmentation")
    if shape and (size or isinstance(shape, dict)):
        from pycocotools import mask as coco

        if isinstance(shape, list):
            shape = _rasterised(shape, size)  # type: ignore[arg-type]
        elif isinstance(shape["counts"], list):
            shape = _compressed(shape)
        return float(coco.area(_encoded(shape)))
    return float(item["bbox"][2] * item["bbox"][3]) if item.get("bbox") else 0.0


def _first(items: Sequence[Any]) -> str:
    unique = list(dict.fromkeys(map(repr, items)))
    return ", ".join(unique[:5]) + (", ..." if len(unique) > 5 else "")
