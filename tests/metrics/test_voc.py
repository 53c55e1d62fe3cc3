"""Average precision of VOC's kind against a plain transcript of its rules."""

from __future__ import annotations

import numpy as np
import pytest
from made_objects import made, repeated

from cvtool.errors import InputError, UsageError
from cvtool.metrics import _boundary_ap, detection_confusion, lvis, pr_curve, tide, voc
from cvtool.metrics._matching import AREAS, THRESHOLDS, average, coco_like, mean
from cvtool.metrics._objects import Objects
from cvtool.metrics._overlaps import Table
from cvtool.metrics._ranking import area
from cvtool.metrics.coco import score


def overlap(a: list[float], b: list[float], one: int = 0) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]) + one
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]) + one
    both = max(0.0, width) * max(0.0, height)
    return both / ((a[2] + one) * (a[3] + one) + (b[2] + one) * (b[3] + one) - both)


def reference(objects: Objects, threshold: float, one: int = 0) -> dict[int, tuple[float, float]]:
    """(whole area, eleven points) of each class with an object to find."""
    rows = {}
    for category in objects.document["categories"]:
        truths = [dict(t, taken=False) for t in objects.document["annotations"] if t["category_id"] == category["id"]]
        spared = [bool(t.get("difficult") or t["iscrowd"]) for t in truths]
        if not (count := spared.count(False)):
            continue
        right = wrong = 0
        curve = []
        for found in sorted((d for d in objects.results if d["category_id"] == category["id"]), key=lambda d: -d["score"]):
            best, at = -1.0, None
            for i, truth in enumerate(truths):
                if truth["image_id"] == found["image_id"] and overlap(found["bbox"], truth["bbox"], one) > best:
                    best, at = overlap(found["bbox"], truth["bbox"], one), i
            if at is None or best < threshold:
                wrong += 1
            elif spared[at]:
                continue
            elif truths[at]["taken"]:
                wrong += 1
            else:
                truths[at]["taken"] = True
                right += 1
            curve.append((right / count, right / (right + wrong)))
        whole, last = 0.0, 0.0
        for i, (recall, _) in enumerate(curve):
            whole += (recall - last) * max(p for _, p in curve[i:])
            last = recall
        eleven = sum(max((p for r, p in curve if r >= k / 10), default=0.0) for k in range(11)) / 11
        rows[category["id"]] = whole, eleven
    return rows


@pytest.mark.parametrize(("seed", "threshold", "inclusive"), [(0, 0.5, False), (1, 0.5, True), (2, 0.7, False), (3, 0.3, True)])
def test_area_and_eleven_points_are_those_of_a_plain_loop(seed: int, threshold: float, inclusive: bool) -> None:
    objects = made(seed, images=12)
    part = voc.of_objects(objects, iou=threshold, inclusive=inclusive)
    rows = reference(objects, threshold, int(inclusive))
    assert part.metrics["VOC_AP"] == pytest.approx(np.mean([row[0] for row in rows.values()]), abs=1e-12)
    assert part.metrics["VOC_AP11"] == pytest.approx(np.mean([row[1] for row in rows.values()]), abs=1e-12)
    for key, (whole, eleven) in rows.items():
        assert part.per_class[f"thing{key}"] == {"VOC_AP": pytest.approx(whole), "VOC_AP11": pytest.approx(eleven)}


def single(truths: list[dict], found: list[tuple[list[float], float]]) -> Objects:
    document = {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "annotations": [{"id": i, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 1.0, **truth} for i, truth in enumerate(truths, 1)],
        "categories": [{"id": 1, "name": "one"}],
    }
    return Objects(document, [{"image_id": 1, "category_id": 1, "bbox": box, "score": score} for box, score in found])


def test_difficult_objects_neither_count_nor_hurt_and_an_object_is_found_once() -> None:
    easy, hard = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 10.0, 10.0]
    truths = [{"bbox": easy}, {"bbox": hard, "difficult": 1}]
    assert voc.of_objects(single(truths, [(easy, 0.5)])).metrics == {"VOC_AP": 1.0, "VOC_AP11": 1.0}
    assert voc.of_objects(single(truths, [(easy, 0.5), (hard, 0.9), (hard, 0.8)])).metrics["VOC_AP"] == 1.0
    twice = voc.of_objects(single([{"bbox": easy}, {"bbox": hard}], [(easy, 0.9), (easy, 0.8), (hard, 0.7)]))
    assert twice.metrics["VOC_AP"] == pytest.approx(0.5 + 0.5 * 2 / 3)  # the second of one object is wrong
    assert twice.metrics["VOC_AP11"] == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_eleven_recalls_are_reached_exactly() -> None:
    """Three of ten objects are a recall of 3 / 10, which 0.1 + 0.1 + 0.1 would miss."""
    boxes = [[20.0 * (i % 5), 40.0 * (i // 5), 9.0, 9.0] for i in range(10)]
    part = voc.of_objects(single([{"bbox": box} for box in boxes], [(box, 0.9 - i / 100) for i, box in enumerate(boxes[:3])]))
    assert part.metrics == {"VOC_AP": pytest.approx(0.3), "VOC_AP11": pytest.approx(4 / 11)}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="inclusive has no effect on masks"):
        voc.of_objects(made(kind="segm"), inclusive=True)
    with pytest.raises(UsageError, match="iou is above 0"):
        voc.of_objects(made(), iou=0.0)
    with pytest.raises(UsageError, match="keypoints does not fit"):
        voc.of_objects(Objects({"images": [], "annotations": [], "categories": []}, [], "keypoints"))
    bare = made()
    with pytest.raises(InputError, match="no scores"):
        voc.of_objects(Objects(bare.document, bare.results, scored=False))


@pytest.mark.system("ap")
def test_average_precision_is_the_fields() -> None:
    """Perfect detections score 1.0 by all three rules; COCO's is the mean over thresholds 0.50:0.05:0.95 of each class, then over the classes, and
    all of it is pycocotools' number."""
    objects = made(5, marks=False)
    truths = objects.document["annotations"]
    perfect = [{"image_id": t["image_id"], "category_id": t["category_id"], "bbox": t["bbox"], "score": 0.5 + i / 1000} for i, t in enumerate(truths)]
    best = Objects(objects.document, perfect)
    assert voc.of_objects(best).metrics == {"VOC_AP": 1.0, "VOC_AP11": 1.0}
    assert score(objects.document, perfect).summary()["AP"] == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(THRESHOLDS, [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
    marked = made(6, images=14)
    for entry in marked.document["annotations"]:
        entry.pop("difficult", None)
    peer = score(marked.document, marked.results, backend="pycocotools")
    table = Table(marked)
    precision, recall = average(coco_like(table), None, AREAS)
    single_ = [np.mean(precision[0, 0, :, k]) for k in range(len(table.categories))]
    assert np.nanmean(single_) == pytest.approx(peer.summary()["AP"], abs=1e-6)
    ours = [*(mean(precision[:, a])[0] for a in range(4)), *(mean(recall[:, a])[0] for a in range(4))]
    names = ("AP", "APs", "APm", "APl", "AR100", "ARs", "ARm", "ARl")
    np.testing.assert_allclose(ours, [peer.summary()[name] for name in names], atol=1e-12)
    assert score(marked.document, marked.results).summary() == pytest.approx(peer.summary(), nan_ok=True)


def federated(objects: Objects) -> Objects:
    for image in objects.document["images"]:
        image |= {"neg_category_ids": [1, 2, 3], "not_exhaustive_category_ids": [2] if image["id"] % 2 else []}
    for category, letter in zip(objects.document["categories"], "rcf", strict=True):
        category["frequency"] = letter
    return objects


@pytest.mark.parametrize("module", [voc, pr_curve, tide, lvis, detection_confusion, _boundary_ap])
def test_images_that_count_twice_are_images_that_are_there_twice(module: object) -> None:
    objects = federated(made(7, images=6, kind="boundary" if module is _boundary_ap else "bbox"))
    measure = module.of_objects  # type: ignore[attr-defined]
    part = measure(objects)
    weights = np.array([[1, 1, 1, 1, 1, 1], [2, 0, 3, 1, 0, 1], [0, 1, 0, 2, 2, 1]])
    rows = part.many(weights)
    assert rows.keys() == part.metrics.keys()
    for b, counts in enumerate(weights):
        again = measure(repeated(objects, counts.tolist())).metrics
        for key, value in again.items():
            assert rows[key][b] == pytest.approx(value, abs=1e-12, nan_ok=True), (key, counts)


def test_nothing_found_is_0_and_nothing_to_find_is_no_number() -> None:
    objects = made(3)
    silent = Objects(objects.document, [])
    assert voc.of_objects(silent).metrics == {"VOC_AP": 0.0, "VOC_AP11": 0.0}
    assert np.isnan(voc.of_objects(Objects({**objects.document, "annotations": []}, objects.results)).metrics["VOC_AP"])
    assert np.isnan(area(np.zeros(2), np.full(2, np.nan)))
