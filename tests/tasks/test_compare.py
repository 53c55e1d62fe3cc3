"""Intervals, comparison with older output, slices: what follows from how each picture contributes to a metric."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvtool.errors import InputError, UsageError
from cvtool.metrics.coco import score
from cvtool.tasks.evaluate import evaluate, failed


def truth(count: int = 24) -> dict[str, Any]:
    """An image with two objects of one class each; every third is of rain."""
    images = [
        {
            "id": n,
            "file_name": f"{n}.jpg",
            "width": 100,
            "height": 100,
            "weather": ["rain", "sun", "sun"][n % 3],
            "camera": {"id": n % 2},
            "night": n < 5,
        }
        for n in range(1, count + 1)
    ]
    entries = [
        {"id": 2 * n + k, "image_id": n, "category_id": k + 1, "bbox": [10 + 40 * k, 10, 30, 30], "area": 900, "iscrowd": 0}
        for n in range(1, count + 1)
        for k in (0, 1)
    ]
    return {"images": images, "annotations": entries, "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]}


def found(gt: dict[str, Any], chance: float, seed: int = 0) -> list[dict[str, Any]]:
    """Each object found with this chance, else something beside it."""
    draw = np.random.default_rng(seed)
    results = []
    for entry in gt["annotations"]:
        right = bool(draw.random() < chance)
        box = entry["bbox"] if right else [60, 65, 30, 30]
        results.append({"image_id": entry["image_id"], "category_id": entry["category_id"], "bbox": box, "score": float(draw.random())})
    return results


@pytest.fixture
def write(tmp_path: Path):
    def call(name: str, value: Any) -> Path:
        (tmp_path / name).write_text(json.dumps(value))
        return tmp_path / name

    return call


# --- intervals and slices --------------------------------------------------------------------------------------------------------------------


def test_intervals_of_objects(write) -> None:
    gt = truth()
    paths = write("gt.json", gt), write("dt.json", found(gt, 0.7))
    report = evaluate(*paths, interval=0.95, resamples=200, seed=3)
    assert list(report["intervals"]) == list(report["metrics"])
    low, high = report["intervals"]["AP"]
    assert low < report["metrics"]["AP"] < high
    assert report["intervals"]["APl"] == [None, None]
    assert report["bootstrap"] == {"level": 0.95, "resamples": 200, "seed": 3, "units": 24}
    assert evaluate(*paths, interval=0.95, resamples=200, seed=3) == report
    narrow = evaluate(*paths, interval=0.5, resamples=200, seed=3)["intervals"]["AP"]
    assert low < narrow[0] < narrow[1] < high
    json.dumps(report, allow_nan=False)


def test_a_figure_beside_its_own_interval_is_said(write) -> None:
    gt = truth(12)
    gt["categories"] += [{"id": 10 + n, "name": f"rare {n}"} for n in range(12)]  # one object each, never found
    gt["annotations"] += [
        {"id": 99 + n, "image_id": n + 1, "category_id": 10 + n, "bbox": [1, 60, 30, 30], "area": 900, "iscrowd": 0} for n in range(12)
    ]
    dt = found(gt, 1)
    dt = [entry for entry in dt if entry["category_id"] < 10]
    report = evaluate(write("gt.json", gt), write("dt.json", dt), interval=0.5, resamples=100)
    assert report["intervals"]["AP"][0] > report["metrics"]["AP"]
    assert any("AP50" in line and "outside the bootstrap interval" in line for line in report["warnings"])


def test_slices_are_evaluations_of_the_parts(write) -> None:
    gt = truth()
    dt = found(gt, 0.7)
    report = evaluate(write("gt.json", gt), write("dt.json", dt), slices=["weather", "camera.id", "night"])
    assert {key: list(groups) for key, groups in report["slices"].items()} == {
        "weather": ["rain", "sun"], "camera.id": ["0", "1"], "night": ["false", "true"],
    }  # fmt: skip
    for value, row in report["slices"]["weather"].items():
        ids = {image["id"] for image in gt["images"] if image["weather"] == value}
        part = {**gt, "images": [i for i in gt["images"] if i["id"] in ids], "annotations": [a for a in gt["annotations"] if a["image_id"] in ids]}
        expected = score(part, [d for d in dt if d["image_id"] in ids]).summary()
        assert row["units"] == len(ids)
        assert row["AP"] == pytest.approx(expected["AP"], abs=1e-12)
        assert row["APl"] is None


def test_slices_that_divide_nothing(write) -> None:
    gt = truth(120)
    paths = write("gt.json", gt), write("dt.json", found(gt, 0.7))
    with pytest.raises(UsageError, match="no picture of the ground truth has it") as stop:
        evaluate(*paths, slices=["wether"])
    assert "weather" in str(stop.value)
    with pytest.raises(UsageError, match="120 different values"):
        evaluate(*paths, slices=["file_name"])
    del gt["images"][0]["weather"]
    groups = evaluate(write("gt.json", gt), paths[1], slices=["weather"])["slices"]["weather"]
    assert groups["(none)"]["units"] == 1


# --- comparison ------------------------------------------------------------------------------------------------------------------------------


def test_a_clear_drop_fails_and_noise_does_not(write) -> None:
    gt = truth(60)
    good, bad = found(gt, 0.8), found(gt, 0.2, 1)
    one = next(i for i, entry in enumerate(good) if entry["bbox"][1] == 10)
    same = [entry | ({"bbox": [60, 65, 30, 30]} if i == one else {}) for i, entry in enumerate(good)]  # one object lost
    files = [write(f"{name}.json", value) for name, value in (("gt", gt), ("good", good), ("same", same), ("bad", bad))]
    report = evaluate(files[0], files[3], baseline=files[1], max_drop=["0.005"], resamples=200)
    row = report["comparison"]["metrics"]["AP"]
    assert row["significant"] is True
    assert row["p"] < 0.02
    assert row["interval"][0] < row["difference"] < row["interval"][1] < 0
    assert row["difference"] == pytest.approx(score(gt, bad).summary()["AP"] - score(gt, good).summary()["AP"])
    assert len(failed(report)) == 1
    assert failed(report)[0].startswith("AP went from ")
    # the other way round is no drop
    assert not failed(evaluate(files[0], files[1], baseline=files[3], max_drop=["0.005"], resamples=100))

    options = {"baseline": files[1], "max_drop": [0.0001], "resamples": 200}
    report = evaluate(files[0], files[2], **options)
    assert report["comparison"]["metrics"]["AP"]["difference"] < -0.001
    assert report["comparison"]["metrics"]["AP"]["significant"] is False
    assert not failed(report)
    assert "not significant" in report["comparison"]["limits"][0]["why"]
    assert failed(evaluate(files[0], files[2], **options, fail_insignificant=True))


def test_the_same_output_is_no_change(write) -> None:
    gt = truth()
    paths = write("gt.json", gt), write("dt.json", found(gt, 0.6))
    report = evaluate(*paths, baseline=paths[1], max_drop=[0], interval=0.9, resamples=50)
    row = report["comparison"]["metrics"]["AP50"]
    assert (row["difference"], row["p"], row["significant"], row["interval"]) == (0, 1, False, [0, 0])
    assert report["intervals"]["AP50"][0] < report["metrics"]["AP50"]
    assert not failed(report)


def test_an_older_report(write) -> None:
    gt = truth()
    paths = write("gt.json", gt), write("dt.json", found(gt, 0.6))
    old = evaluate(*paths)
    old["metrics"]["AP"] += 0.01
    file = write("old.json", old)
    report = evaluate(*paths, baseline=file, max_drop=["0.02", "AP50=0"])
    row = report["comparison"]["metrics"]["AP"]
    assert row["difference"] == pytest.approx(-0.01)
    assert "p" not in row
    assert not failed(report)
    assert "significance is not known" in failed(evaluate(*paths, baseline=file, max_drop=["0.005"]))[0]
    with pytest.raises(UsageError, match="no metric 'AP5'"):
        evaluate(*paths, baseline=file, max_drop=["AP5=0.1"])


def test_other_protocols_and_other_ground_truth_are_refused(write) -> None:
    gt = truth()
    paths = write("gt.json", gt), write("dt.json", found(gt, 0.6))
    old = evaluate(*paths)
    changes = {"params": {**old["params"], "max_dets": [1, 10, 300]}, "iou_type": "segm", "task": "segmentation"}
    for key, value in changes.items():
        with pytest.raises(InputError, match="another protocol"):
            evaluate(*paths, baseline=write("old.json", {**copy.deepcopy(old), key: value}))
    with pytest.raises(InputError, match="other ground truth"):
        evaluate(*paths, baseline=write("old.json", {**old, "counts": {**old["counts"], "images": 3}}))


def test_a_drop_of_what_was_not_measured_fails(write) -> None:
    gt = truth()
    paths = write("gt.json", gt), write("dt.json", found(gt, 0.6))
    assert "not measured now (null)" in failed(evaluate(*paths, baseline=paths[1], max_drop=["APl=1"], resamples=10))[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_drop": [0.1]}, "without --baseline"),
        ({"interval": 1.0}, "between 0 and 1"),
        ({"interval": 0.9, "resamples": 0}, "at least 1"),
        ({"gates": ["AP"]}, "is no condition"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        evaluate(tmp_path / "none.json", tmp_path / "none.json", **options)


# --- classes and maps ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def classified(tmp_path: Path) -> tuple[Path, Path, list[dict]]:
    draw = np.random.default_rng(2)
    records = []
    for name in ("cat", "cow", "dog"):
        (tmp_path / "animals" / name).mkdir(parents=True)
        for n in range(12):
            path = tmp_path / "animals" / name / f"{n}.jpg"
            path.touch()
            best = name if draw.random() < 0.7 else "cow"
            records.append(
                {"file_name": str(path), "labels": [{"category_id": "cat cow dog".split().index(best) + 1, "category": best, "score": 0.7}]}
            )
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return tmp_path / "animals", tmp_path / "answers.jsonl", records


def test_weights_of_pictures_are_pictures_repeated(classified) -> None:
    from cvtool.tasks.evaluate import measure
    from cvtool.tasks.evaluation import Options

    folder, answers, records = classified
    measured = measure(folder, answers, options=Options())
    assert measured.statistic(np.ones(36)) == pytest.approx(measured.metrics)
    weights = np.random.default_rng(0).integers(0, 4, 36)
    true, found_ = zip(*((Path(r["file_name"]).parent.name, r["labels"][0]["category"]) for r in records), strict=True)
    true, found_ = np.repeat(true, weights), np.repeat(found_, weights)
    values = measured.statistic(weights.astype(float))
    right, classes = true == found_, ("cat", "cow", "dog")
    assert values["accuracy"] == pytest.approx(right.mean())
    assert values["balanced_accuracy"] == pytest.approx(np.mean([right[true == name].mean() for name in classes]))
    assert values["f1"] == pytest.approx(np.mean([2 * right[true == n].sum() / ((true == n).sum() + (found_ == n).sum()) for n in classes]))
    assert values["ECE"] == pytest.approx(abs(0.7 - right.mean()))


def test_lower_is_better_for_some(classified) -> None:
    folder, answers, records = classified
    for record in records:
        record["labels"][0]["score"] = 0.4
    worse = answers.with_name("worse.jsonl")
    worse.write_text("".join(json.dumps(record) + "\n" for record in records))
    report = evaluate(folder, worse, baseline=answers, max_drop=["ECE=0.01", "accuracy=0"], resamples=100)
    assert len(failed(report)) == 1
    assert failed(report)[0].startswith("ECE went from")


def test_only_the_metric_that_was_asked_for(classified) -> None:
    folder, answers, _ = classified
    assert list(evaluate(folder, answers, metrics="ece")["metrics"]) == ["ECE"]
    assert evaluate(folder, answers, metrics="calibration:bins=5")["params"]["ece_bins"] == 5
    with pytest.raises(UsageError, match="no argument 'bin'"):
        evaluate(folder, answers, metrics="calibration:bin=5")


def test_maps_of_parts_add_up(tmp_path: Path) -> None:
    from PIL import Image

    draw = np.random.default_rng(0)
    for side in ("images", "masks", "found"):
        (tmp_path / side).mkdir()
    for n in range(6):
        Image.new("RGB", (20, 16)).save(tmp_path / "images" / f"{n}.png")
        true = draw.integers(0, 3, (16, 20), dtype=np.uint8)
        wrong = np.where(draw.random((16, 20)) < 0.1 * n, (true + 1) % 3, true)
        Image.fromarray(true).save(tmp_path / "masks" / f"{n}.png")
        Image.fromarray(wrong.astype(np.uint8)).save(tmp_path / "found" / f"{n}.png")
    (tmp_path / "classes.txt").write_text("0 sky\n1 road\n2 car\n")
    (tmp_path / "found" / "classes.txt").write_text("0 sky\n1 road\n2 car\n")
    from cvtool.tasks.evaluate import measure
    from cvtool.tasks.evaluation import Options

    measured = measure(tmp_path, tmp_path / "found", options=Options())
    assert measured.statistic(np.ones(6)) == pytest.approx(measured.metrics)
    each = measured.per_unit["pixel_accuracy"]
    assert each[0] == 1
    assert (np.diff(each) < 0.05).all()
    assert measured.statistic(np.eye(6)[5])["pixel_accuracy"] == pytest.approx(each[5])
    low, high = evaluate(tmp_path, tmp_path / "found", interval=0.9, resamples=60)["intervals"]["mIoU"]
    assert low < measured.metrics["mIoU"] < high
