"""`evaluate --report`: which units come first, what their cards show, pictures found and bounded, curves that agree with the numbers."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from cvtool.errors import InputError, UsageError
from cvtool.tasks.evaluate import evaluate, measure
from cvtool.tasks.evaluation import Options, _page
from cvtool.tasks.evaluation._measured import Measured

BOX = [10, 10, 30, 30]


@pytest.fixture
def files(tmp_path, png):
    """Three pictures: one right, one with a wrong class and a miss, one with a detection too much; and a crowd."""
    for name in ("a.png", "b.png", "c.png"):
        png(f"images/{name}", 400, 300)
    images = [{"id": n, "file_name": f"{name}.png", "width": 400, "height": 300} for n, name in enumerate("abc", 1)]
    marks = [(1, 1, BOX, 0), (2, 1, BOX, 0), (2, 2, [200, 100, 50, 50], 0), (3, 2, BOX, 0), (3, 1, [200, 0, 100, 100], 1)]
    truth = {
        "images": images,
        "annotations": [
            {"id": n, "image_id": i, "category_id": k, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
            for n, (i, k, box, crowd) in enumerate(marks, 1)
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    }
    found = [
        (1, 1, BOX, 0.9),
        (2, 2, BOX, 0.8),
        (3, 2, BOX, 0.7),
        (3, 2, [300, 200, 40, 40], 0.75),
        (3, 1, [210, 10, 20, 20], 0.72),
        (1, 2, BOX, 0.1),
    ]
    detections = [{"image_id": i, "category_id": k, "bbox": box, "score": score} for i, k, box, score in found]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(detections))
    return tmp_path


def cards(gt, dt, images=None, **more):
    measured = measure(gt, dt, metrics=more.pop("metrics", None), options=Options(**more))
    return _page.worst(measured, gt, images)


def test_worst_pictures_first_with_what_went_wrong(files):
    shown, rule, spread = cards(files / "gt.json", files / "dt.json")
    assert [card["name"] for card in shown] == ["b.png", "c.png"]  # a.png is perfect
    b, c = shown
    assert b["values"] == {"f1": 0.0, "missed": 2, "false_positives": 1}
    assert [(mark["label"], mark["state"]) for mark in b["truth"]] == [("dog", "missed"), ("cat", "missed")]
    assert [(mark["label"], mark["state"], mark["score"], mark["box"]) for mark in b["found"]] == [("cat", "wrong", 0.8, BOX)]
    assert {(mark["label"], mark["state"]) for mark in c["truth"]} == {("cat", "met"), ("dog (crowd)", "spared")}
    assert [(mark["label"], mark["state"]) for mark in c["found"]] == [("cat", "wrong"), ("dog", "spared"), ("cat", "right")]
    assert c["size"] == (400, 300)
    assert rule.startswith("The 2 lowest by f1, of 3 in all.")
    assert sum(spread["count"]) == 3


def test_pictures_are_thumbnails_or_places(files):
    shown, rule, _ = cards(files / "gt.json", files / "dt.json")
    kind, data = shown[0]["picture"].split(",")
    assert kind == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert picture.size == (320, 240)
    assert "not at hand" not in rule
    (files / "images").rename(files / "elsewhere")
    (files / "elsewhere").rename(files.parent / f"{files.name}-pictures")
    shown, rule, _ = cards(files / "gt.json", files / "dt.json")
    assert shown[0]["picture"] is None
    assert shown[0]["why"] == "the picture is not at hand"
    assert "Pictures not at hand: 2; --images says where they lie." in rule
    there = files.parent / f"{files.name}-pictures"
    (there / "b.png").write_bytes(b"no picture")
    shown, _, _ = cards(files / "gt.json", files / "dt.json", there)
    assert shown[0]["picture"] is None
    assert shown[0]["why"]
    assert shown[1]["picture"]
    with pytest.raises(InputError, match="no such folder"):
        cards(files / "gt.json", files / "dt.json", files / "nowhere")


def test_units_and_bytes_are_bounded(files, monkeypatch):
    monkeypatch.setattr(_page, "BYTES", 10)
    shown, _, _ = cards(files / "gt.json", files / "dt.json")
    assert all("picture" not in card and "too large" in card["why"] for card in shown)
    values = np.linspace(0, 0.99, 200)
    measured = Measured("x", {"q": 0.5}, units=[f"u{i}" for i in range(200)], per_unit={"q": values}, primary="q")
    assert [card["name"] for card in _page.worst(measured, "-", None)[0]] == [f"u{i}" for i in range(_page.MOST)]
    measured.lower = ("q",)
    shown, rule, _ = _page.worst(measured, "-", None)
    assert [card["name"] for card in shown[:2]] == ["u199", "u198"]
    assert rule.startswith("The 60 highest by q of 199 that are not perfect, of 200 in all.")
    assert _page.worst(Measured("x", {"q": 1.0}), "-", None) == ([], "", None)


def test_curves_agree_with_the_numbers(files):
    measured = measure(files / "gt.json", files / "dt.json", options=Options())
    charts = measured.page.charts()
    named = {line["name"].split(",")[0]: np.mean(line["y"]) for line in charts["curves"]}
    assert named["overlap 0.50"] == pytest.approx(measured.metrics["AP50"])
    assert named["overlap 0.75"] == pytest.approx(measured.metrics["AP75"])
    assert named["overlaps 0.50 to 0.95"] == pytest.approx(measured.metrics["AP"])
    asked = evaluate(files / "gt.json", files / "dt.json", metrics="pr-curve,detection-confusion")
    for name, row in charts["classes"]["classes"].items():
        theirs = asked["pr_curve"]["classes"][name]
        assert row["recall"] == pytest.approx(theirs["recall"], abs=1e-4)
        assert row["area"] == pytest.approx(theirs["area"])
    assert {key: charts["confusion"][key] for key in asked["confusion"]} == asked["confusion"]
    assert sum(charts["scores"]["right"]) == 2
    assert sum(charts["scores"]["wrong"]) == 3  # what lies in a crowd is neither


def test_masks_are_outlined_and_keypoints_boxed(files):
    truth, found = (json.loads((files / name).read_text()) for name in ("gt.json", "dt.json"))
    for entry in [*truth["annotations"], *found]:
        x, y, w, h = entry["bbox"]
        entry["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    for entry in truth["annotations"]:
        entry["keypoints"] = [20, 30, 2] * 16 + [40, 60, 2]
        entry["num_keypoints"] = 17
    (files / "gt.json").write_text(json.dumps(truth))
    for entry in found:
        entry["keypoints"] = [20, 30, 1] * 16 + [40, 60, 1]
    (files / "dt.json").write_text(json.dumps(found))
    shown, _, _ = cards(files / "gt.json", files / "dt.json", iou_type="segm")
    ring = next(card for card in shown if card["name"] == "b.png")["found"][0]["polygons"][0]
    assert [min(ring[::2]), min(ring[1::2]), max(ring[::2]), max(ring[1::2])] == pytest.approx([10, 10, 40, 40], abs=3)
    shown, _, _ = cards(files / "gt.json", files / "dt.json", iou_type="keypoints")
    assert next(card for card in shown if card["name"] == "b.png")["found"][0]["box"] in (BOX, [20, 30, 20, 30])


def test_classes_the_surest_errors_first(tmp_path, png):
    rows = []
    for n, (true, said, score) in enumerate([("cat", "cat", 0.9), ("cat", "dog", 0.6), ("dog", "cat", 0.8), ("dog", "dog", 0.5)]):
        png(f"data/{true}/{n}.png", 32, 32)
        rows.append({"file_name": f"{true}/{n}.png", "labels": [{"category_id": ["cat", "dog"].index(said), "category": said, "score": score}]})
    (tmp_path / "dt.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shown, _, _ = cards(tmp_path / "data", tmp_path / "dt.jsonl")
    assert [card["line"] for card in shown] == ["dog, taken for cat (0.80)", "cat, taken for dog (0.60)"]
    assert all(card["picture"] for card in shown)
    measured = measure(tmp_path / "data", tmp_path / "dt.jsonl", options=Options())
    charts = measured.page.charts()
    assert charts["calibration"]["ece"] == pytest.approx(measured.metrics["ECE"])
    assert charts["scores"]["right"].sum() == charts["scores"]["wrong"].sum() == 2


def test_texts_maps_pictures_and_regions(tmp_path, png):
    (tmp_path / "gt.tsv").write_text("a.png\tabcd\nb.png\tok\n")
    (tmp_path / "dt.tsv").write_text("a.png\taxcde\nb.png\tok\n")
    png("a.png", 20, 10)
    shown, _, _ = cards(tmp_path / "gt.tsv", tmp_path / "dt.tsv", metrics="cer")
    assert [(card["name"], card["text"]) for card in shown] == [("a.png", [["same", "a"], ["gone", "b"], ["new", "x"], ["same", "cd"], ["new", "e"]])]
    assert shown[0]["picture"]
    for side, corner in (("gt", 10), ("dt", 4)):
        (tmp_path / side).mkdir()
        (tmp_path / side / f"{'gt' if side == 'gt' else 'res'}_a.txt").write_text(f"0,0,10,0,10,{corner},0,{corner},word\n")
    shown, _, _ = cards(tmp_path / "gt", tmp_path / "dt", tmp_path, metrics="icdar")
    assert [shown[0][side][0]["state"] for side in ("truth", "found")] == ["missed", "wrong"]
    assert shown[0]["picture"]  # a.txt is of a.png
    for name, value in (("t", 0), ("f", 1)):
        pixels = np.zeros((8, 8), np.uint8)
        pixels[:4] = value
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "m.png")
        (tmp_path / name / "classes.txt").write_text("sky\nroad\n")
    shown, _, _ = cards(tmp_path / "t", tmp_path / "f", metrics="psnr")
    assert set(shown[0]["pair"]) == {"truth", "found"}
    page = _page.labelled(np.array([[0, 1], [255, 2]]), ["sky", "road"]).convert("RGB")
    assert page.getpixel((0, 0)) != page.getpixel((1, 0))
    assert page.getpixel((0, 1)) == page.getpixel((1, 1)) == (0, 0, 0)


def test_the_file_is_written_whole_and_says_all(files):
    page = files / "out" / "report.html"
    report = evaluate(files / "gt.json", files / "dt.json", per_class=True, gates=["AP>=0.99"], interval=0.9, resamples=10, html=page)
    text = page.read_text(encoding="utf-8")
    assert f"<b>{report['metrics']['AP']:.4f}</b>" in text
    assert "✗ failed" in text
    assert len(re.findall(r'<li class="card"', text)) == 2
    assert [path.name for path in page.parent.iterdir()] == ["report.html"]
    assert "charts" not in report
    with pytest.raises(UsageError, match="--images has no effect without --report"):
        evaluate(files / "gt.json", files / "dt.json", images=files)


def test_on_the_command_line(files, capsys):
    from cvtool.__main__ import main

    def run(*more):
        words = ["evaluate", "--gt", str(files / "gt.json"), "--dt", str(files / "dt.json"), "-q", *map(str, more)]
        with contextlib.suppress(SystemExit):
            main(words)
        return capsys.readouterr()

    page = files / "page.html"
    assert json.loads(run("--report", page, "--images", files / "images").out)["task"] == "detection"
    assert page.read_text().count("data:image/jpeg") == 2
    assert "page.html exists" in run("--report", page).err
    assert run("--report", page, "--overwrite").err == ""
    assert "--images has no effect" in run("--images", files).err


def test_real_pictures(data, tmp_path):
    coco = data / "coco_sample"
    page = tmp_path / "report.html"
    detections = coco / "reference" / "fastestdet_tiny_val_dets.json"
    report = evaluate(coco / "annotations" / "instances_tiny_val.json", detections, html=page, images=coco / "tiny_val")
    text = page.read_text(encoding="utf-8")
    assert report["metrics"]["AP"] == pytest.approx(0.1551, abs=5e-5)
    assert "overlaps 0.50 to 0.95, AP 0.1551" in text
    assert 40 <= text.count("data:image/jpeg") <= _page.MOST
    assert len(text) < _page.BYTES + 2**20
