"""COCO's numbers: arrays equal to pycocotools byte for byte, means equal to the last bit, and the published figures of the oracles."""

import contextlib
import copy
import io
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cvtool.errors import InputError, MissingDependency, UsageError
from cvtool.metrics import _files
from cvtool.metrics.coco import Scores, evaluate, limits_of, score

ARRAYS = ("precision", "recall", "scores")


def reference(gt: dict, dt: list[dict], iou_type: str) -> COCOeval:
    """pycocotools as its users call it."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy({"info": {}, **gt})
        truth.createIndex()
        scorer = COCOeval(truth, truth.loadRes(copy.deepcopy(dt)), iou_type)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer


def assert_equal(result: Scores, peer: COCOeval) -> None:
    for name in ARRAYS:
        mine, theirs = getattr(result, name), peer.eval[name]
        assert mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape
        assert mine.tobytes() == theirs.tobytes(), name
    ours = [-1.0 if math.isnan(value) else value for value in result.summary().values()]
    assert ours == peer.stats.tolist()


def synthetic(seed: int, iou_type: str, images: int = 12) -> tuple[dict, list[dict]]:
    """Crowds, equal scores, many detections an image, images without truth and without detections, classes never seen."""
    rng = np.random.default_rng(seed)
    ids = (rng.permutation(500)[:images] + 1).tolist()
    size = 160
    truths, found = [], []

    def shape(box: list[float]) -> dict:
        x, y, w, h = box
        polygon = [x, y, x + w, y, x + w / 2, y + h, x, y + h]
        rle = masks.merge(masks.frPyObjects([polygon], size, size))
        return {"size": list(rle["size"]), "counts": rle["counts"].decode()}

    for n, image in enumerate(ids):
        for _ in range(0 if n == 0 else int(rng.integers(1, 9))):
            w, h = (rng.choice([8, 20, 60, 120], 2) * rng.uniform(0.7, 1, 2)).round(1).tolist()
            x, y = (rng.random(2) * (size - 40)).round(1).tolist()
            crowd = int(rng.random() < 0.15)
            entry = {"id": len(truths) + 1, "image_id": image, "category_id": int(rng.integers(1, 4)), "bbox": [x, y, w, h], "iscrowd": crowd}
            entry["area"] = round(w * h * float(rng.choice([1, 0.6])), 2)
            entry["segmentation"] = shape(entry["bbox"]) if crowd else [[x, y, x + w, y, x + w / 2, y + h, x, y + h]]
            points = np.column_stack([rng.random((17, 2)) * [w, h] + [x, y], rng.integers(0, 3, 17)])
            entry["keypoints"] = points.round(1).ravel().tolist()
            entry["num_keypoints"] = int((points[:, 2] > 0).sum()) if rng.random() < 0.85 else 0
            truths.append(entry)
            for _ in range(0 if n == 1 else int(rng.integers(0, 14))):
                moved = [round(float(v), 1) for v in np.array(entry["bbox"]) + rng.normal(0, 3, 4)]
                moved[2:] = [max(2.0, v) for v in moved[2:]]
                result = {"image_id": image, "category_id": int(rng.choice([entry["category_id"], 2])), "score": float(rng.integers(0, 12)) / 12}
                if iou_type == "bbox":
                    result["bbox"] = moved
                elif iou_type == "segm":
                    result["segmentation"] = shape(moved)
                else:
                    jitter = rng.normal(0, 2, (17, 3)) * [1, 1, 0]
                    result["keypoints"] = (points + jitter).round(1).ravel().tolist()
                found.append(result)
    gt = {
        "images": [{"id": i, "width": size, "height": size, "file_name": f"{i}.jpg"} for i in ids],
        "annotations": truths,
        "categories": [{"id": i, "name": f"name {i}"} for i in (3, 1, 2, 7)],
    }
    return gt, found


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("iou_type", ["bbox", "segm", "keypoints"])
@pytest.mark.parametrize("seed", [0, 1])
def test_arrays_equal_pycocotools_byte_for_byte(seed: int, iou_type: str, backend: str) -> None:
    gt, dt = synthetic(seed, iou_type)
    result = score(gt, dt, iou_type, backend=backend)
    assert_equal(result, reference(gt, dt, iou_type))
    assert result.backend.startswith(backend)


boxes = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 110), st.integers(1, 110)).map(list)
truth_entries = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2), boxes, st.booleans()), min_size=1, max_size=12)
found_entries = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2), boxes, st.sampled_from([0.1, 0.5, 0.5, 0.9])), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(truth_entries, found_entries)
def test_any_small_set_equals_pycocotools(truths: list, found: list) -> None:
    gt = {
        "images": [{"id": i} for i in (3, 1, 2)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": int(crowd)}
            for n, (i, c, b, crowd) in enumerate(truths, 1)
        ],
    }
    dt = [{"image_id": i, "category_id": c, "bbox": b, "score": s} for i, c, b, s in found]
    assert_equal(score(gt, dt, backend="hotcoco"), reference(gt, dt, "bbox"))


def test_numbers_of_the_official_example(data) -> None:
    folder = data / "coco_eval_oracle" / "dataset" / "cocoapi"
    gt = json.loads((folder / "instances_val2014_100.json").read_text())
    expected = {
        "bbox": [0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564],
        "segm": [0.320, 0.562, 0.299, 0.387, 0.310, 0.327, 0.268, 0.415, 0.417, 0.469, 0.377, 0.381],
    }
    for iou_type, values in expected.items():
        dt = json.loads((folder / f"instances_val2014_fake{iou_type}100_results.json").read_text())
        result = score(gt, dt, iou_type)
        assert [round(v, 3) for v in result.summary().values()] == values
        assert_equal(result, reference(gt, dt, iou_type))


def test_keypoints_of_the_oracle(data) -> None:
    folder = data / "coco_eval_oracle" / "keypoints_dataset"
    gt, dt = (json.loads((folder / f"{side}_dataset.json").read_text()) for side in ("gt", "dt"))
    result = score(gt, dt, "keypoints")
    values = result.summary()
    assert [round(values[key], 4) for key in ("AP", "AP50", "AP75", "AR")] == [0.5049, 0.7228, 0.6337, 0.5182]
    assert list(values) == ["AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"]
    assert_equal(result, reference(gt, dt, "keypoints"))


def test_small_real_sets_equal_pycocotools(data) -> None:
    folder = data / "coco_eval_oracle" / "dataset"
    gt, dt = (json.loads((folder / f"{side}_dataset.json").read_text()) for side in ("gt", "dt"))
    for iou_type in ("bbox", "segm"):
        assert_equal(score(gt, dt, iou_type), reference(gt, dt, iou_type))
    assert round(evaluate(gt, dt)["AP"], 4) == 0.6947


# --- where pycocotools goes wrong ------------------------------------------------------------------------------------------------------------

IMAGES = [{"id": 1}, {"id": 2}]
CATEGORIES = [{"id": 1, "name": "dog"}]
BOX = [10, 10, 20, 20]


def one(**changes) -> dict:
    return {"id": 1, "image_id": 1, "category_id": 1, "bbox": BOX, "area": 400, "iscrowd": 0} | changes


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("ids", [(0, 1), (5, 5), (None, None)])
def test_annotation_ids_do_not_matter(ids: tuple, backend: str, capfd) -> None:
    truths = [one(id=ids[0]), one(id=ids[1], image_id=2, bbox=[50, 50, 20, 20])]
    truths = [{k: v for k, v in t.items() if v is not None} for t in truths]
    gt = {"images": IMAGES, "annotations": truths, "categories": CATEGORIES}
    dt = [{"image_id": t["image_id"], "category_id": 1, "bbox": t["bbox"], "score": 0.9} for t in truths]
    assert evaluate(gt, dt, backend=backend)["AP"] == pytest.approx(1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_no_detections_score_zero_and_no_truth_scores_nothing(backend: str) -> None:
    gt = {"images": IMAGES, "annotations": [one()], "categories": CATEGORIES}
    values = evaluate(gt, [], backend=backend)
    assert values["AP"] == values["AR100"] == values["APs"] == 0
    assert math.isnan(values["APl"])
    assert math.isnan(evaluate({**gt, "annotations": []}, [], backend=backend)["AP"])


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_limit_of_detections_other_than_100(backend: str) -> None:
    gt, dt = synthetic(3, "bbox")
    values = evaluate(gt, dt, max_dets=300, backend=backend)
    assert values["AP"] > 0
    assert [key for key in values if key.startswith("AR")] == ["AR1", "AR10", "AR300", "ARs", "ARm", "ARl"]
    assert values["AP"] == evaluate(gt, dt, backend=backend)["AP"]  # no image and class has more than 100
    assert evaluate(gt, dt, max_dets=2, backend=backend)["AP"] < values["AP"]


def test_limits() -> None:
    assert limits_of(None, "bbox") == [1, 10, 100]
    assert limits_of(None, "keypoints") == [20]
    assert limits_of(5, "segm") == [1, 5]
    assert limits_of(1, "bbox") == [1]
    assert limits_of([100, 1], "bbox") == [1, 100]
    assert limits_of(300, "keypoints") == [300]
    with pytest.raises(UsageError):
        limits_of(0, "bbox")


def test_inputs_are_not_changed() -> None:
    gt, dt = synthetic(4, "segm")
    before = copy.deepcopy((gt, dt))
    for backend in ("hotcoco", "pycocotools"):
        evaluate(gt, dt, "segm", backend=backend)
    assert (gt, dt) == before


def test_per_class_and_arrays() -> None:
    gt, dt = synthetic(5, "bbox")
    values = evaluate(gt, dt, per_class=True, arrays=True)
    rows = [values[f"per_class.name {i}.AP"] for i in (1, 2, 3)]
    assert values["AP"] == pytest.approx(np.mean(rows))
    assert math.isnan(values["per_class.name 7.AP"])
    assert values["precision"].shape == (10, 101, 4, 4, 3)
    assert values["recall"].shape == (10, 4, 4, 3)
    only = score(gt, dt, category_ids=[2])
    assert [c["id"] for c in only.categories] == [2]
    assert only.summary()["AP"] == values["per_class.name 2.AP"]


def test_two_categories_of_one_name_stay_apart() -> None:
    gt, dt = synthetic(6, "bbox")
    gt["categories"] = [{"id": i, "name": "same" if i < 3 else "other"} for i in (1, 2, 3, 7)]
    assert list(score(gt, dt).per_class()) == ["same (1)", "same (2)", "other (3)", "other (7)"]


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_other_keypoints_than_cocos_are_refused(backend: str) -> None:
    gt = {"images": IMAGES, "annotations": [one(keypoints=[1, 2, 2] * 14, num_keypoints=14)], "categories": CATEGORIES}
    dt = [{"image_id": 1, "category_id": 1, "keypoints": [1, 2, 2] * 14, "score": 0.5}]
    with pytest.raises(InputError, match="17 body points"):
        evaluate(gt, dt, "keypoints", backend=backend)


def test_unknown_type_and_backend() -> None:
    with pytest.raises(UsageError, match="bbox, segm, keypoints"):
        evaluate({}, [], "boxes")
    with pytest.raises(UsageError, match="hotcoco"):
        evaluate({}, [], backend="fast")


def test_without_hotcoco_pycocotools_answers(monkeypatch, tmp_path) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "hotcoco" else found(name, *rest))
    gt, dt = synthetic(10, "bbox")
    assert score(gt, dt).backend.startswith("pycocotools")
    assert _files.open_clean(*write(tmp_path, gt, dt), "bbox", "auto") is None
    with pytest.raises(MissingDependency, match="hotcoco"):
        score(gt, dt, backend="hotcoco")


# --- clean files, read by hotcoco alone ------------------------------------------------------------------------------------------------------


def write(folder, gt: dict, dt: list) -> tuple:
    paths = folder / "gt.json", folder / "dt.json"
    for path, value in zip(paths, (gt, dt), strict=True):
        path.write_text(json.dumps(value))
    return paths


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_clean_files_are_scored_as_they_stand(tmp_path, iou_type: str) -> None:
    gt, dt = synthetic(7, iou_type)
    clean = _files.open_clean(*write(tmp_path, gt, dt), iou_type, "auto")
    assert clean is not None
    assert (clean.images, clean.annotations, clean.detections) == (12, len(gt["annotations"]), len(dt))
    assert clean.images_with_detections == len({d["image_id"] for d in dt})
    assert_equal(score(clean.truth, clean.found, iou_type), reference(gt, dt, iou_type))


def dirty() -> dict[str, tuple]:
    """What is wrong -> a function that makes it so."""

    def entry(side: str, **changes):
        def change(gt: dict, dt: list) -> None:
            target = gt["annotations"] if side == "gt" else dt
            target[3] = {k: v for k, v in (target[3] | changes).items() if v is not ...}

        return change

    return {
        "missing score": entry("dt", score=...), "null score": entry("dt", score=None), "missing box": entry("dt", bbox=...),
        "unknown image": entry("dt", image_id=9999), "unknown category": entry("dt", category_id=99), "text id": entry("dt", image_id="3"),
        "NaN": entry("dt", score=float("nan")), "named": lambda gt, dt: dt[0].update(category="name 1"),
        "id 0": entry("gt", id=0), "repeated id": entry("gt", id=1), "no area": entry("gt", area=...), "no box": entry("gt", bbox=...),
        "orphan": entry("gt", image_id=9999), "stranger": entry("gt", category_id=99), "ignore": entry("gt", ignore=1),
        "infinite box": entry("gt", bbox=[0, 0, float("inf"), 3]), "two images of one id": lambda gt, dt: gt["images"].append(gt["images"][0]),
        "text image id": lambda gt, dt: gt["images"][0].update(id="7"), "no results": lambda gt, dt: dt.clear(),
    }  # fmt: skip


@pytest.mark.parametrize("what", dirty())
def test_anything_else_takes_the_long_way(tmp_path, what: str, capfd) -> None:
    gt, dt = synthetic(8, "bbox")
    dirty()[what](gt, dt)
    assert _files.open_clean(*write(tmp_path, gt, dt), "bbox", "auto") is None
    assert capfd.readouterr() == ("", "")  # hotcoco's own remarks are kept back


def test_masks_with_boxes_or_of_another_size_take_the_long_way(tmp_path) -> None:
    gt, dt = synthetic(9, "segm")
    assert _files.open_clean(*write(tmp_path, gt, dt), "segm", "auto") is not None
    boxed = [d | {"bbox": [0, 0, 5, 5]} for d in dt]
    assert _files.open_clean(*write(tmp_path, gt, boxed), "segm", "auto") is None
    other = [d | {"segmentation": d["segmentation"] | {"size": [80, 160]}} for d in dt]
    assert _files.open_clean(*write(tmp_path, gt, other), "segm", "auto") is None


def test_counting_keys_across_chunks(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(_files, "_CHUNK", 7)
    text = b'[{"score": 1, "bbox": [1, 2]}, {"score": 2, "bbox": []}]"score'
    (tmp_path / "x").write_bytes(text)
    keys = [b'"score"', b'"bbox"', b'"e']
    assert _files._count(tmp_path / "x", *keys) == [text.count(key) for key in keys]
    (tmp_path / "x").write_bytes(text + b": null}")
    assert _files._count(tmp_path / "x", *keys) is None
