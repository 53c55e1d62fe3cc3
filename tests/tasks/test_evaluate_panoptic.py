"""Panoptic files: what is read, what is refused and how, and COCO's sample."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cvtool.annotations import rle
from cvtool.errors import CvtoolError, UsageError
from cvtool.tasks.evaluate import evaluate
from cvtool.tasks.evaluation.panoptic import segment_ids

TABLE = [{"id": 1, "name": "person", "isthing": 1}, {"id": 7, "name": "sky", "isthing": 0}]
BIG = 70000  # an id of three bytes


def save(ids: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], 2).astype(np.uint8)).save(path)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write("gt", maps, segments)`: a panoptic document of images 1, 2 ... and its folder."""

    def make(name: str, maps: list[np.ndarray], segments: list[list[dict]], **more: Any) -> Path:
        entries = [{"image_id": n, "file_name": f"{n}.png", "segments_info": info} for n, info in enumerate(segments, 1)]
        for n, ids in enumerate(maps, 1):
            save(ids, tmp_path / name / f"{n}.png")
        images = [{"id": n, "file_name": f"{n}.jpg", "place": "sea" if n == 1 else "land"} for n in range(1, len(maps) + 1)]
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"images": images, "annotations": entries, "categories": TABLE, **more}))
        return path

    return make


def maps() -> tuple[list[np.ndarray], list[list[dict]]]:
    one, two = np.full((6, 8), 3), np.full((6, 8), 5)
    one[:, 4:] = BIG
    two[:3] = 9
    info = [[{"id": 3, "category_id": 1, "iscrowd": 0, "area": 24}, {"id": BIG, "category_id": 7, "iscrowd": 0, "area": 24}]]
    return [one, two], [*info, [{"id": 5, "category_id": 1}, {"id": 9, "category_id": 7}]]


def test_ids_are_of_three_bytes() -> None:
    pixels = np.array([[[1, 2, 3], [255, 255, 255], [0, 0, 0]]], np.uint8)
    assert segment_ids(pixels).tolist() == [[1 + 256 * 2 + 65536 * 3, 2**24 - 1, 0]]


def test_the_kind_is_found_and_its_parts_are_there(write: Callable[..., Path]) -> None:
    gt = write("gt", *maps())
    found, info = maps()
    found[0][:, :6] = 3  # the person takes half of the sky
    dt = write("dt", found, info)
    report = evaluate(gt, dt, per_class=True, slices=("place",), interval=0.9, resamples=20)
    overlap = {"person": (24 / 36 + 1) / 2, "sky": 1 / 2}  # half a sky is none: one wrong, one missed
    assert report["task"] == "panoptic"
    assert report["metrics"]["PQ_things"] == pytest.approx(overlap["person"])
    assert report["metrics"]["PQ_stuff"] == pytest.approx(1 / 2)
    assert report["metrics"]["PQ"] == pytest.approx((overlap["person"] + 1 / 2) / 2)
    assert report["per_class"]["sky"] == {"PQ": 0.5, "SQ": 1.0, "RQ": 0.5, "found": 1, "wrong": 1, "missed": 1}
    assert report["counts"]["segments_found"] == 3
    assert report["slices"]["place"]["land"]["PQ"] == 1.0
    assert report["intervals"]["PQ"][0] <= report["metrics"]["PQ"] <= report["intervals"]["PQ"][1]
    only = evaluate(gt, dt, metrics="pq", classes=["sky"])
    assert only["metrics"]["PQ"] == pytest.approx(1 / 2)
    assert only["metrics"]["PQ_things"] is None


def test_masks_in_records_are_segments(write: Callable[..., Path], tmp_path: Path) -> None:
    gt = write("gt", *maps())
    found, info = maps()
    lines = []
    for n, (ids, parts) in enumerate(zip(found, info, strict=True), 1):
        names = {1: "person", 7: "sky"}
        entries = [{"category_id": p["category_id"] + 10, "category": names[p["category_id"]], "segmentation": rle(ids == p["id"])[0]} for p in parts]
        lines.append(json.dumps({"file_name": f"x/{n}.jpg", "annotations": entries}))
    path = tmp_path / "dt.jsonl"
    path.write_text("\n".join(lines))
    report = evaluate(gt, path)
    assert report["metrics"]["PQ"] == 1.0
    assert report["counts"]["matched_by"] == "file name"
    with pytest.raises(UsageError, match="--dt-maps has no effect on records"):
        evaluate(gt, path, dt_maps="somewhere")


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(CvtoolError) as info:
        call()
    assert len(info.value.lines()) <= 3
    return str(info.value)


def test_what_contradicts_itself_is_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    gt = write("gt", *maps())

    def other(change: Callable[[list[np.ndarray], list[list[dict]]], Any]) -> str:
        found, info = maps()
        change(found, info)
        return refused(lambda: evaluate(gt, write("dt", found, info)))

    assert "the map of 1.jpg has 1 segment that segments_info lacks: 3" in other(lambda found, info: info[0].pop(0))
    assert "segments_info of 2.jpg has 1 segment that the map lacks: 77" in other(lambda found, info: info[1].append({"id": 77, "category_id": 1}))
    assert "the segment 3 of 1.jpg has the unknown category_id 99" in other(lambda found, info: info[0][0].update(category_id=99))
    assert "no prediction for 1 image of the ground truth: 2.jpg" in other(lambda found, info: (found.pop(), info.pop()))
    assert "two segments of 1.jpg have the id 3" in other(lambda found, info: info[0].append(dict(info[0][0])))
    assert "ids are whole numbers from 1" in other(lambda found, info: info[0][0].update(id=0))

    def wider(found: list[np.ndarray], info: list[list[dict]]) -> None:
        found[0] = np.tile(found[0], 2)

    assert "the map of 1.jpg is 16 x 6, the truth 8 x 6" in other(wider)


def test_files_that_are_none_are_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    gt = write("gt", *maps())
    dt = tmp_path / "dt.json"
    dt.write_text("[]")
    assert "not a panoptic file" in refused(lambda: evaluate(gt, dt))
    dt.write_text("{")
    assert "not valid JSON" in refused(lambda: evaluate(gt, dt))
    lone = tmp_path / "lone.json"
    lone.write_text(gt.read_text())
    assert "--dt-maps DIR" in refused(lambda: evaluate(gt, lone))
    assert evaluate(gt, lone, dt_maps=str(tmp_path / "gt"))["metrics"]["PQ"] == 1.0
    document = json.loads(gt.read_text())
    document["annotations"][0]["file_name"] = "../../secret.png"
    lone.write_text(json.dumps(document))
    assert "leads out of the folder" in refused(lambda: evaluate(gt, lone, dt_maps=str(tmp_path / "gt")))
    document["annotations"][0]["file_name"] = "absent.png"
    lone.write_text(json.dumps(document))
    assert "no such map" in refused(lambda: evaluate(gt, lone, dt_maps=str(tmp_path / "gt")))
    document["annotations"][0]["image_id"] = 2
    lone.write_text(json.dumps(document))
    assert "two annotations are of the image 2" in refused(lambda: evaluate(gt, lone, dt_maps=str(tmp_path / "gt")))
    assert "--max-det has no effect" in refused(lambda: evaluate(gt, gt, max_det=3))


def disturbed(seed: int) -> tuple[list[np.ndarray], list[list[dict]], list[np.ndarray], list[list[dict]]]:
    """Three images with void and crowds, and what was found: moved, with holes, some classes exchanged."""
    draw = np.random.default_rng(seed)
    rows: tuple[list, list, list, list] = ([], [], [], [])
    for _ in range(3):
        keys = draw.integers(1, 2**24 - 1, 10)
        true = np.kron(keys[draw.integers(0, 10, (5, 6))], np.ones((6, 6), int))
        true[:6, :9] = 0
        found = np.roll(true, int(draw.integers(1, 3)), 1)
        found[draw.random(found.shape) < 0.05] = 0
        classes = {int(key): int(draw.choice([1, 7])) for key in keys}
        rows[0].append(true)
        rows[1].append([_segment(true, key, classes[key], bool(draw.random() < 0.2)) for key in classes if (true == key).any()])
        rows[2].append(found)
        guess = {key: label if draw.random() < 0.8 else 8 - label for key, label in classes.items()}
        rows[3].append([_segment(found, key, guess[key], False) for key in classes if (found == key).any()])
    return rows


def _segment(ids: np.ndarray, key: int, category: int, crowd: bool) -> dict:
    return {"id": key, "category_id": category, "iscrowd": int(crowd), "area": int((ids == key).sum()), "bbox": [0, 0, 1, 1]}


@pytest.mark.parametrize("seed", range(3))
def test_the_numbers_are_those_of_another_implementation(write: Callable[..., Path], seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    panoptic = pytest.importorskip("hotcoco.panoptic")
    true, mine, found, theirs = disturbed(seed)
    gt, dt = write("gt", true, mine), write("dt", found, theirs)
    metrics = evaluate(gt, dt)["metrics"]
    known = panoptic.pq_compute(str(gt), str(dt))
    for name, suffix in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
        for key in ("pq", "sq", "rq"):
            assert metrics[key.upper() + suffix] == pytest.approx(known[name][key], abs=1e-9)


def test_the_sample_of_coco(data: Path, tmp_path: Path) -> None:
    """Against itself it is perfect; with each image's largest person called a dog, one segment is wrong and one missed."""
    folder = data / "coco_sample" / "panoptic_sample"
    gt = folder / "panoptic_examples.json"
    assert evaluate(gt, gt)["metrics"] == dict.fromkeys(
        ["PQ", "SQ", "RQ", "PQ_things", "SQ_things", "RQ_things", "PQ_stuff", "SQ_stuff", "RQ_stuff"], 1.0
    )
    document = json.loads(gt.read_text())
    changed = 0
    for entry in document["annotations"]:
        people = [part for part in entry["segments_info"] if part["category_id"] == 1 and not part["iscrowd"]]
        if people:
            max(people, key=lambda part: part["area"])["category_id"] = 18
            changed += 1
    dt = tmp_path / "dt.json"
    dt.write_text(json.dumps(document))
    report = evaluate(gt, dt, dt_maps=str(folder / "panoptic_examples"))
    assert changed
    assert report["counts"]["segments_wrong"] == report["counts"]["segments_missed"] == changed
    assert report["metrics"]["PQ_stuff"] == 1.0 > report["metrics"]["PQ_things"]
