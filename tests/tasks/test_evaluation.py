"""The list of metrics and kinds, which kind a ground truth is of, options without effect, and the bad input that must not be scored in silence."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvtool import metrics
from cvtool.calls import Call
from cvtool.data import sides
from cvtool.errors import InputError, UsageError
from cvtool.tasks.evaluate import evaluate, measure
from cvtool.tasks.evaluation import Options, kinds, own_options
from cvtool.tasks.evaluation._asked import asked, kind_of
from cvtool.tasks.evaluation._measured import Measured, report

BOX = [10, 10, 30, 30]


def test_every_metric_is_of_a_kind_and_says_what_it_reports() -> None:
    for metric in metrics.catalogue().values():
        assert metric.kind in kinds(), metric.name
        assert metric.keys, metric.name
        assert set(metric.lower) <= set(metric.keys), metric.name
        assert metric.summary.endswith("."), metric.name
        assert all(metric.keys.values()), metric.name
    assert not metrics.clashes()


def test_every_kind_scores() -> None:
    for kind in kinds().values():
        parameters = inspect.signature(kind.load().score).parameters
        assert list(parameters) == ["gt", "dt", "metrics", "options"], kind.name
        assert parameters["metrics"].kind is parameters["options"].kind is inspect.Parameter.KEYWORD_ONLY
        assert any(metric.kind == kind.name for metric in metrics.catalogue().values()), kind.name


def test_options_of_kinds_are_no_options_of_all() -> None:
    from cvtool.cli import evaluate as command

    fixed = set(inspect.signature(evaluate).parameters)
    assert not fixed & set(own_options())
    assert set(own_options()) <= set(inspect.signature(command.main).parameters)


def test_listing_imports_nothing() -> None:
    code = (
        "import sys; from cvtool.__main__ import main; main(['evaluate', '--list']); "
        "print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    lines = done.stdout.splitlines()
    for metric in metrics.catalogue().values():
        assert any(line.startswith(f"  {metric.name} ") for line in lines), metric.name


# --- names -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("miou", [Call("mean-iou")]),
        ("mIoU", [Call("mean-iou")]),
        ("mean_iou", [Call("mean-iou")]),
        ("ECE,accuracy", [Call("calibration"), Call("accuracy")]),
        ("calibration:bins=5", [Call("calibration", (), {"bins": 5})]),
        ("calibration@5", [Call("calibration", (5,))]),
        ("calibration@5,accuracy", [Call("calibration", (5,)), Call("accuracy")]),
        ("top5-accuracy", [Call("accuracy")]),
    ],
)
def test_metrics_by_name(text: str, calls: list[Call]) -> None:
    assert asked(text) == calls
    assert asked([text]) == calls


def test_metrics_that_do_not_go_together() -> None:
    with pytest.raises(UsageError, match="accuracy is of classes and mean-iou of maps"):
        kind_of(asked("accuracy,miou"))
    with pytest.raises(UsageError, match="given twice"):
        asked("miou,mean-iou")
    with pytest.raises(UsageError, match="'precision' is reported by several metrics") as stop:
        asked("precision")
    assert "agreement" in str(stop.value)
    assert "confusion" in str(stop.value)
    with pytest.raises(UsageError, match="unknown metric 'acuracy'") as stop:
        asked("acuracy")
    assert "did you mean accuracy" in str(stop.value)


# --- which kind ------------------------------------------------------------------------------------------------------------------------------


def truth(**changes: Any) -> dict[str, Any]:
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 100, "height": 100} for n in (1, 2)]
    entries = [{"id": n, "image_id": n, "category_id": 1, "bbox": BOX, "area": 900, "iscrowd": 0} for n in (1, 2)]
    return {"images": images, "annotations": entries, "categories": [{"id": 1, "name": "dog"}], **changes}


FOUND = [{"image_id": n, "category_id": 1, "bbox": BOX, "score": 0.5 + n / 10} for n in (1, 2)]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "gt.json").write_text(json.dumps(truth()))
    (tmp_path / "dt.json").write_text(json.dumps(FOUND))
    return tmp_path


def test_a_metric_of_another_kind_than_the_ground_truth(files: Path) -> None:
    with pytest.raises(InputError, match=r"has no label map|no masks"):
        evaluate(files / "gt.json", files / "dt.json", metrics="miou")
    (files / "animals" / "cat").mkdir(parents=True)
    (files / "animals" / "dog").mkdir()
    for name in ("cat", "dog"):
        (files / "animals" / name / "1.jpg").touch()
    with pytest.raises(InputError, match="no objects in it"):
        evaluate(files / "animals", files / "dt.json", metrics="coco")


def test_options_without_effect_are_refused(files: Path) -> None:
    with pytest.raises(UsageError, match="--iou-type has no effect: --metric accuracy is of classes"):
        evaluate(files / "gt.json", files / "dt.json", metrics="accuracy", iou_type="segm")
    for key, own in own_options().items():
        with pytest.raises(UsageError, match=f"--{key.replace('_', '-')} has no effect: the ground truth is for detection") as stop:
            evaluate(files / "gt.json", files / "dt.json", **{key: own.default if own.default is not None else "x"})
        assert own.kinds[0] in str(stop.value)


def test_where_it_cannot_be_told_the_metrics_that_fit_are_named(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "notes.md").write_text("x")
    with pytest.raises(InputError, match="what to measure of it cannot be told") as stop:
        evaluate(tmp_path / "pictures", tmp_path / "pictures")
    assert "psnr" in str(stop.value)


def test_panoptic_files_and_embeddings_are_known_by_their_form(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for name in ("panoptic", "embeddings"):
        module = kinds()[name].load()
        monkeypatch.setattr(module, "score", lambda gt, dt, *, name=name, **_: seen.append((name, Path(gt).name)) or Measured(name, {"x": 1.0}))
    segments = {"image_id": 1, "file_name": "1.png", "segments_info": []}
    (files / "pan.json").write_text(json.dumps(truth(annotations=[segments])))
    evaluate(files / "pan.json", files / "pan.json")
    evaluate(files / "photos.npz", files / "photos.npz")
    assert seen == [("panoptic", "pan.json"), ("embeddings", "photos.npz")]


def test_by_engine_or_the_long_way_the_metric_is_the_same(files: Path) -> None:
    paths = files / "gt.json", files / "dt.json"
    assert evaluate(*paths, metrics="coco") == evaluate(*paths)
    slow = measure(*paths, options=Options(slices=True))
    fast = measure(*paths, options=Options())
    assert slow.units == fast.units == ["1.jpg", "2.jpg"]
    weights = np.array([[1.0, 1], [2, 0], [0, 3]])
    for key, values in fast.weighted(weights).items():
        assert values == pytest.approx(slow.weighted(weights)[key], nan_ok=True)
    assert fast.per_unit["f1"].tolist() == [1, 1]
    assert set(fast.per_unit) == {"f1", "missed", "false_positives"}


def test_a_report_holds_no_numbers_that_json_lacks() -> None:
    measured = Measured("x", {"a": float("nan"), "b": np.float32(0.5)}, extra={"c": np.array([1, np.inf])}, params={"k": np.int64(3)})
    done = report(measured)
    assert (done["metrics"], done["c"], done["params"]) == ({"a": None, "b": 0.5}, [1, None], {"k": 3})
    json.dumps(done, allow_nan=False)


# --- ground truth against ground truth -------------------------------------------------------------------------------------------------------


def test_another_annotation_is_compared_without_scores(files: Path) -> None:
    other = truth()
    other["annotations"][1]["bbox"] = [60, 60, 30, 30]
    other["annotations"].append({"id": 9, "image_id": 2, "category_id": 1, "bbox": [20, 10, 30, 30], "area": 900, "iscrowd": 0})
    (files / "other.json").write_text(json.dumps(other))
    done = evaluate(files / "gt.json", files / "other.json", per_class=True)
    assert done["metrics"] | {"precision": pytest.approx(2 / 3), "recall": 1, "f1": 0.8, "mean_IoU": pytest.approx(0.75)} == done["metrics"]
    assert done["per_class"]["dog"]["recall"] == 1
    assert "AP" not in done["metrics"]
    assert any("no scores" in line and "no average precision" in line for line in done["warnings"])
    back = evaluate(files / "other.json", files / "gt.json")
    assert (back["metrics"]["precision"], back["metrics"]["recall"]) == (done["metrics"]["recall"], done["metrics"]["precision"])
    assert back["metrics"]["mean_IoU"] == done["metrics"]["mean_IoU"]
    low, high = evaluate(files / "gt.json", files / "other.json", interval=0.9, resamples=20)["intervals"]["precision"]
    assert low < high


def test_agreement_may_be_asked_of_detections(files: Path) -> None:
    assert evaluate(files / "gt.json", files / "dt.json", metrics="agreement")["metrics"]["f1"] == 1
    assert set(evaluate(files / "gt.json", files / "dt.json", metrics="coco,agreement")["metrics"]) >= {"AP", "mean_IoU"}


def test_crowds_are_neither_found_nor_missed(files: Path) -> None:
    other = truth()
    other["annotations"][0] |= {"iscrowd": 1, "bbox": [0, 0, 80, 80]}
    (files / "other.json").write_text(json.dumps(other))
    for pair in (("gt.json", "other.json"), ("other.json", "gt.json")):
        found = evaluate(*(files / name for name in pair))["metrics"]
        assert (found["precision"], found["recall"], found["mean_IoU"]) == (1, 1, 1)


# --- bad input -------------------------------------------------------------------------------------------------------------------------------


def test_a_run_joined_with_itself_is_said(files: Path) -> None:
    (files / "twice.json").write_text(json.dumps(FOUND + FOUND))
    done = evaluate(files / "gt.json", files / "twice.json")
    assert any(line.startswith("2 detections repeat another one exactly") for line in done["warnings"])
    assert not evaluate(files / "gt.json", files / "dt.json")["warnings"][1:]


def test_empty_folders(files: Path) -> None:
    (files / "empty").mkdir()
    for pair in (("empty", "dt.json"), ("gt.json", "empty")):
        with pytest.raises(InputError, match="the folder is empty"):
            evaluate(*(files / name for name in pair))


def test_a_file_too_large_for_the_memory_is_refused_with_the_limit(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "MAX_BYTES", 300)
    big = [{**entry, "category": "dog"} for entry in FOUND * 3]  # named, so that it is no plain file
    (files / "big.json").write_text(json.dumps(big))
    with pytest.raises(InputError, match="more than the 300"):
        evaluate(files / "gt.json", files / "big.json")
    monkeypatch.undo()
    assert sides.room(10**12) == 64 * 1024**2


def test_a_file_of_a_gigabyte_that_does_not_fit_is_refused_before_it_is_read(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (files / "dt.json").open("r+b") as file:
        file.truncate(1 << 30)  # takes no disk: the rest is a hole
    monkeypatch.setattr(sides, "room", lambda growth: 100_000_000)
    with pytest.raises(InputError, match=r"1,073,741,824 bytes, more than the 100,000,000"):
        evaluate(files / "gt.json", files / "dt.json")


def test_a_huge_plain_file_is_read_by_the_engine_alone(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "MAX_BYTES", 10)
    assert evaluate(files / "gt.json", files / "dt.json")["metrics"]["AP"] == pytest.approx(1)


def test_detections_of_images_that_are_not_there_are_counted(files: Path) -> None:
    (files / "more.json").write_text(json.dumps([*FOUND, {**FOUND[0], "image_id": 77}, {**FOUND[0], "image_id": 78}]))
    done = evaluate(files / "gt.json", files / "more.json")
    assert done["counts"]["detections_left_out"] == 2
    assert any("77, 78" in line for line in done["warnings"])


def test_polygons_and_runs_side_by_side(files: Path) -> None:
    shape = [[10, 10, 40, 10, 40, 40, 10, 40]]
    gt = truth()
    for entry in gt["annotations"]:
        entry["segmentation"] = shape
    from pycocotools import mask

    rle = mask.merge(mask.frPyObjects(shape, 100, 100))
    dt = [{**FOUND[0], "segmentation": shape}, {**FOUND[1], "segmentation": {"size": [100, 100], "counts": rle["counts"].decode()}}]
    (files / "gt.json").write_text(json.dumps(gt))
    (files / "dt.json").write_text(json.dumps(dt))
    assert evaluate(files / "gt.json", files / "dt.json", iou_type="segm")["metrics"]["AP"] == pytest.approx(1)
    dt[1]["segmentation"]["size"] = [50, 200]
    (files / "dt.json").write_text(json.dumps(dt))
    with pytest.raises(InputError, match="50 x 200"):
        evaluate(files / "gt.json", files / "dt.json", iou_type="segm")
