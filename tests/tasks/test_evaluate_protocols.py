"""Protocols other than COCO's through `evaluate`: what reaches them from files, and options that they do not read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_objects import made

from cvtool.errors import InputError, UsageError
from cvtool.metrics import tide, voc
from cvtool.tasks.evaluate import evaluate

XML = "<annotation><filename>{name}.jpg</filename><size><width>100</width><height>100</height><depth>3</depth></size>{objects}</annotation>"
OBJECT = (
    "<object><name>dog</name><difficult>{0}</difficult><bndbox><xmin>{1}</xmin><ymin>{2}</ymin><xmax>{3}</xmax><ymax>{4}</ymax></bndbox></object>"
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    objects = made(0)
    gt, dt = tmp_path / "gt.json", tmp_path / "dt.json"
    gt.write_text(json.dumps(objects.document))
    dt.write_text(json.dumps(objects.results))
    return gt, dt


def test_difficult_objects_of_voc_files_are_spared(tmp_path: Path) -> None:
    folder = tmp_path / "voc"
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    (folder / "ImageSets/Main/test.txt").write_text("a\n")
    (folder / "Annotations/a.xml").write_text(XML.format(name="a", objects=OBJECT.format(0, 1, 1, 20, 20) + OBJECT.format(1, 41, 41, 60, 60)))
    dt = tmp_path / "dt.jsonl"
    found = [{"bbox": [40, 40, 20, 20], "score": 0.9}, {"bbox": [0, 0, 20, 20], "score": 0.8}]
    dt.write_text(json.dumps({"file_name": "a.jpg", "annotations": [{**entry, "category_id": 1, "category": "dog"} for entry in found]}))
    assert evaluate(folder, dt, metrics="voc", split="test")["metrics"] == {"VOC_AP": 1.0, "VOC_AP11": 1.0}
    curve = evaluate(folder, dt, metrics="pr-curve", split="test")["metrics"]
    assert (curve["precision"], curve["recall"]) == (1.0, 1.0)
    dt.write_text(json.dumps({"file_name": "a.jpg", "annotations": [{**found[1], "category_id": 1, "category": "dog"}]}))
    assert evaluate(folder, dt, metrics="voc", split="test")["metrics"]["VOC_AP"] == 1.0
    assert evaluate(folder, dt, split="test")["metrics"]["AP50"] < 0.6  # COCO knows crowds only
    assert evaluate(folder, dt, split="test")["metrics"] == evaluate(folder, dt, split="test", backend="pycocotools")["metrics"]


def test_several_protocols_stand_side_by_side(files: tuple[Path, Path]) -> None:
    objects = made(0)
    report = evaluate(*files, metrics="coco,voc:iou=0.6,tide", per_class=True, interval=0.9, resamples=8)
    assert report["metrics"]["VOC_AP"] == voc.of_objects(objects, iou=0.6).metrics["VOC_AP"]
    assert report["metrics"]["dAP_Miss"] == tide.of_objects(objects).metrics["dAP_Miss"]
    assert report["params"]["voc"] == {"iou": 0.6, "inclusive": False}
    assert {"AP", "VOC_AP", "TIDE_AP", "Miss"} <= set(report["per_class"]["thing1"])
    assert report["intervals"].keys() >= {"AP", "VOC_AP", "dAP_Cls"}
    assert report["tide"]["worst_images"][0]["image"].endswith(".jpg")
    only = evaluate(*files, metrics="voc", classes=["thing1"], per_class=True)
    assert list(only["per_class"]) == ["thing1"]
    assert only["metrics"]["VOC_AP"] == only["per_class"]["thing1"]["VOC_AP"]


def test_lvis_reads_what_an_image_says_of_its_classes(tmp_path: Path) -> None:
    objects = made(0)
    for category in objects.document["categories"]:
        category["frequency"] = "f"
    gt, dt = tmp_path / "gt.json", tmp_path / "dt.json"
    dt.write_text(json.dumps(objects.results))
    rows: list[dict[str, Any]] = []
    for negative in ([], [1, 2, 3]):
        for image in objects.document["images"]:
            image |= {"neg_category_ids": negative, "not_exhaustive_category_ids": []}
        gt.write_text(json.dumps(objects.document))
        rows.append(evaluate(gt, dt, metrics="lvis"))
    assert rows[0]["lvis"]["detections_not_judged"] > 0 == rows[1]["lvis"]["detections_not_judged"]
    assert rows[0]["metrics"]["APf"] == rows[0]["metrics"]["AP"] >= rows[1]["metrics"]["AP"]
    assert rows[0]["metrics"]["APr"] is None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"max_det": 5}, "--max-det has no effect: it is for --metric coco"),
        ({"backend": "hotcoco"}, "--backend has no effect: it is for --metric coco"),
        ({"iou_type": "keypoints"}, "--iou-type keypoints"),
        ({"dt_maps": "x"}, "--dt-maps has no effect"),
    ],
)
def test_options_that_a_protocol_does_not_read_are_refused(files: tuple[Path, Path], more: dict[str, Any], said: str) -> None:
    with pytest.raises((UsageError, InputError)) as info:
        evaluate(*files, metrics="voc", **more)
    assert said in str(info.value) or "keypoints" in str(info.value)


def test_detections_without_scores_are_refused(files: tuple[Path, Path]) -> None:
    gt, dt = files
    dt.write_text(json.dumps([{key: value for key, value in entry.items() if key != "score"} for entry in made(0).results]))
    for name in ("voc", "pr-curve", "tide", "detection-confusion"):
        with pytest.raises(InputError, match="the detections have no scores"):
            evaluate(gt, dt, metrics=name)
