"""The six kinds of error: tidecv's numbers, and a picture of each kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_objects import made

from cvtool.errors import UsageError
from cvtool.metrics import tide
from cvtool.metrics._detection_errors import calibration
from cvtool.metrics._objects import Objects

BOX = [10.0, 10.0, 20.0, 20.0]


def scene(found: list[tuple[int, list[float], float]], truths: list[tuple[int, list[float]]] | None = None) -> Objects:
    truths = [(1, BOX)] if truths is None else truths
    document = {
        "images": [{"id": 1, "width": 100, "height": 100, "file_name": "1.jpg"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": label, "bbox": box, "iscrowd": 0, "area": box[2] * box[3]}
            for i, (label, box) in enumerate(truths, 1)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    return Objects(document, [{"image_id": 1, "category_id": label, "bbox": box, "score": score} for label, box, score in found])


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("Cls", (2, BOX)),
        ("Loc", (1, [20.0, 10.0, 20.0, 20.0])),  # overlap 1/3
        ("Both", (2, [20.0, 10.0, 20.0, 20.0])),
        ("Bkg", (1, [70.0, 70.0, 20.0, 20.0])),
    ],
)
def test_each_kind(kind: str, found: tuple[int, list[float]]) -> None:
    part = tide.of_objects(scene([(*found, 0.9)]))
    counts = part.extra["tide"]["counts"]
    missed = kind in ("Both", "Bkg")  # a mended Cls or Loc finds the object
    assert counts == {name: int(name == kind) for name in tide.TYPES[:-1]} | {"Miss": int(missed)}
    if not missed:
        assert part.metrics[f"dAP_{kind}"] == pytest.approx(1.0)
    worst = part.extra["tide"]["worst_images"]
    assert worst == [{"image": "1.jpg", "errors": 1 + missed, "right": 0, **counts}]


def test_a_second_detection_is_a_duplicate_and_only_the_best_claim_is_mended() -> None:
    part = tide.of_objects(scene([(1, BOX, 0.9), (1, BOX, 0.95)]))
    assert part.extra["tide"]["counts"]["Dupe"] == 1
    assert part.metrics["TIDE_AP"] == 1.0
    two = tide.of_objects(scene([(2, BOX, 0.9), (2, BOX, 0.8)]))
    assert two.extra["tide"]["counts"]["Cls"] == 2
    assert two.metrics["dAP_Cls"] == 1.0  # dog is gone, cat is perfect
    assert two.per_class["dog"] == {"TIDE_AP": 0.0, "Cls": 2, "Loc": 0, "Both": 0, "Dupe": 0, "Bkg": 0, "Miss": 0}


def oracle(objects: Objects) -> dict[str, float]:
    tidecv = pytest.importorskip("tidecv")
    truth, found = tidecv.Data("truth"), tidecv.Data("found")
    for category in objects.document["categories"]:
        truth.add_class(category["id"], category["name"])
    for image in objects.document["images"]:
        truth.add_image(image["id"], str(image["id"]))
    for entry in objects.document["annotations"]:
        add = truth.add_ignore_region if entry["iscrowd"] or entry.get("difficult") else truth.add_ground_truth
        add(entry["image_id"], entry["category_id"], entry["bbox"], entry.get("segmentation"))
    for entry in objects.results:
        found.add_detection(entry["image_id"], entry["category_id"], entry["score"], entry.get("bbox"), entry.get("segmentation"))
    run = tidecv.TIDE().evaluate(truth, found, mode=tidecv.TIDE.BOX if objects.iou_type == "bbox" else tidecv.TIDE.MASK)
    names = {"FalsePos": "FP", "FalseNeg": "FN"}
    rows = {"TIDE_AP": run.ap / 100}
    rows |= {
        f"dAP_{names.get(kind.short_name, kind.short_name)}": value / 100
        for kind, value in (run.fix_main_errors() | run.fix_special_errors()).items()
    }
    return rows | {f"count_{kind.short_name}": len(found) for kind, found in run.error_dict.items()}


@pytest.mark.parametrize(("seed", "kind", "ties"), [(0, "bbox", False), (1, "bbox", True), (2, "segm", False), (3, "segm", True)])
def test_the_numbers_are_those_of_tidecv(seed: int, kind: str, ties: bool) -> None:
    objects = made(seed, images=16, classes=4, kind=kind, ties=ties)
    part = tide.of_objects(objects)
    mine = part.metrics | {f"count_{name}": count for name, count in part.extra["tide"]["counts"].items()}
    assert mine == pytest.approx(oracle(objects), abs=1e-12)
    assert all(part.extra["tide"]["counts"][name] for name in ("Cls", "Loc", "Dupe", "Bkg", "Miss"))


@pytest.mark.parametrize(
    ("file", "kind", "figures"),  # as tidecv 1.0.1 gives them: AP; Cls, Loc, Both, Dupe, Bkg, Miss; FP, FN
    [
        ("fakebbox100", "bbox", (0.642050, 0.222460, 0.002279, 0.0, 0.000190, 0.0, 0.085236, 0.068216, 0.176850)),
        ("fakesegm100", "segm", (None, 0.161860, 0.116007, 0.010128, 0.0, 0.002681, 0.077786, 0.086603, 0.237458)),
    ],
)
def test_the_numbers_of_real_images(data: Path, file: str, kind: str, figures: tuple[float | None, ...]) -> None:
    folder = data / "coco_eval_oracle" / "dataset" / "cocoapi"
    document = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / f"instances_val2014_{file}_results.json").read_text())
    metrics = tide.of_objects(Objects(document, results, kind)).metrics
    for (key, value), known in zip(metrics.items(), figures, strict=True):
        assert known is None or value == pytest.approx(known, abs=1e-6), key


def test_no_more_than_the_best_detections_of_an_image_count() -> None:
    found: list[Any] = [(1, [70.0, 70.0, 20.0, 20.0], 0.9), (1, BOX, 0.1)]
    assert tide.of_objects(scene(found), max_det=1).metrics["TIDE_AP"] == 0.0
    assert tide.of_objects(scene(found), max_det=2).metrics["TIDE_AP"] == pytest.approx(0.5)


def test_where_the_errors_are() -> None:
    objects = made(4, images=12, marks=False)
    part = tide.of_objects(objects)
    told = part.extra["tide"]
    assert sum(row["right"] + row["wrong"] for row in told["by_score"]) == len(objects.results)
    assert sum(row["wrong"] for row in told["by_score"]) == sum(told["counts"][name] for name in tide.TYPES[:-1])
    assert sum(row["objects"] for row in told["by_size"].values()) == len(objects.document["annotations"])
    right = sum(row["right"] for row in told["by_score"])
    assert sum(row["not_found"] for row in told["by_size"].values()) == len(objects.document["annotations"]) - right
    errors = [row["errors"] for row in told["worst_images"]]
    assert errors == sorted(errors, reverse=True)
    assert told["calibration"]["bins"][0].keys() == {"from", "to", "detections", "score", "precision"}


def test_calibration_is_the_weighted_distance_of_confidence_and_precision() -> None:
    found = calibration(np.array([0.95, 0.95, 0.55, 0.05]), np.array([True, False, True, False]))
    assert found["ECE"] == pytest.approx((2 * 0.45 + 0.45 + 0.05) / 4)
    assert calibration(np.zeros(0), np.zeros(0, bool))["ECE"] is None
    assert calibration(np.array([7.0]), np.array([True]))["ECE"] is None


def test_refusals() -> None:
    with pytest.raises(UsageError, match="background < iou"):
        tide.of_objects(made(), background=0.6)
