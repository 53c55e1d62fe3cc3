"""Classes of pictures and label maps: what is measured, what is matched, and that nothing scores in silence."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as theirs

from cvtool.annotations import rle
from cvtool.cli.evaluate import table
from cvtool.data.formats import masks
from cvtool.errors import InputError, UsageError
from cvtool.records import Record
from cvtool.tasks.evaluate import evaluate

CLASSES = ["cat", "cow", "dog", "emu", "fox", "gnu", "hen"]


def said(report: dict, words: str) -> bool:
    return any(words in warning for warning in report["warnings"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Class folders of three empty files each, for the pictures are never opened."""
    for name in CLASSES:
        (tmp_path / "animals" / name).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "animals" / name / f"{i}.jpg").touch()
    return tmp_path / "animals"


Answers = Callable[..., Path]


@pytest.fixture
def answers(tmp_path: Path, folder: Path) -> Answers:
    """`answers(change)`: JSON lines as `cvtool classify` writes them; `change(record)` -> the record, another one or None."""

    def write(change: Callable[[dict], dict | None] = lambda record: record, *, ids: int = 1, top: int = 5) -> Path:
        draw = np.random.default_rng(0)
        lines = []
        for label, name in enumerate(CLASSES):
            for i in range(3):
                scores = draw.random(len(CLASSES))
                scores[label] += 0.4
                scores /= scores.sum()
                best = np.argsort(-scores)[:top].tolist()
                labels = [{"category_id": k + ids, "category": CLASSES[k], "score": float(scores[k])} for k in best]
                record = change({"file_name": str(folder / name / f"{i}.jpg"), "labels": labels})
                if record is not None:
                    lines.append(json.dumps(record))
        path = tmp_path / "answers.jsonl"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def test_all_figures_are_scikit_learns(folder: Path, answers: Answers) -> None:
    path = answers()
    report = evaluate(folder, path, per_class=True)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    true = [CLASSES.index(Path(r["file_name"]).parent.name) for r in records]
    found = [CLASSES.index(r["labels"][0]["category"]) for r in records]
    assert 0 < sum(f == t for f, t in zip(found, true, strict=True)) < len(true)
    values = report["metrics"]
    assert report["task"] == "classification"
    assert values["accuracy"] == pytest.approx(theirs.accuracy_score(true, found))
    assert values["balanced_accuracy"] == pytest.approx(theirs.balanced_accuracy_score(true, found))
    near = [t in [CLASSES.index(e["category"]) for e in r["labels"]] for r, t in zip(records, true, strict=True)]
    assert values["top5_accuracy"] == pytest.approx(sum(near) / len(near))
    precision, recall, f1, count = theirs.precision_recall_fscore_support(true, found, labels=range(7), zero_division=np.nan)
    for k, name in enumerate(CLASSES):
        row = report["per_class"][name]
        assert [row["precision"], row["recall"], row["f1"]] == [pytest.approx(v) if v == v else None for v in (precision[k], recall[k], f1[k])]
        assert values[f"per_class.{name}.f1"] == row["f1"]
        assert values[f"per_class.{name}.pictures"] == count[k] == 3
    means = theirs.precision_recall_fscore_support(true, found, average="macro", zero_division=0)[:3]
    assert [values["precision"], values["recall"], values["f1"]] == [pytest.approx(v) for v in means]
    assert report["confusion"]["matrix"] == theirs.confusion_matrix(true, found, labels=range(7)).tolist()
    assert report["confusion"]["categories"] == CLASSES
    confidence = [r["labels"][0]["score"] for r in records]
    gaps = 0.0
    for b in range(15):
        inside = [i for i, c in enumerate(confidence) if b / 15 < c <= (b + 1) / 15]
        gaps += abs(sum(found[i] == true[i] for i in inside) - sum(confidence[i] for i in inside))
    assert values["ECE"] == pytest.approx(gaps / len(true))
    assert report["counts"]["images"] == report["counts"]["images_matched"] == 21
    assert report["matching"] == "matched 21 of 21 classified pictures by file name; 0 of 21 ground-truth pictures without an answer"
    assert not report["warnings"]
    text = "\n".join(table(report))
    assert "pictures whose best class is the true one" in text
    assert "hen" in text


def test_csv_and_webdataset_on_either_side(tmp_path: Path, folder: Path, answers: Answers) -> None:
    path = answers()
    expected = evaluate(folder, path)["metrics"]
    with (tmp_path / "truth.csv").open("w") as file:
        file.write("file,label\n" + "".join(f"{name}/{i}.jpg,{name}\n" for name in CLASSES for i in range(3)))
    assert evaluate(tmp_path / "truth.csv", path)["metrics"] == expected
    with (tmp_path / "answers.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("file_name", "category", "score"))
        for line in path.read_text().splitlines():
            record = json.loads(line)
            out.writerows((record["file_name"], e["category"], e["score"]) for e in record["labels"])
    assert evaluate(folder, tmp_path / "answers.csv")["metrics"] == pytest.approx(expected)


def test_ids_of_another_table_are_matched_by_name(folder: Path, answers: Answers) -> None:
    expected = evaluate(folder, answers())["metrics"]
    report = evaluate(folder, answers(ids=101))
    assert report["metrics"] == expected
    assert said(report, "matched by name: cat 101 -> 1")


def test_what_was_not_answered_is_wrong_and_said(folder: Path, answers: Answers) -> None:
    report = evaluate(folder, answers(lambda r: None if "cat/0" in r["file_name"] else r))
    assert report["counts"]["unanswered"] == 1
    assert sum(report["confusion"]["none"]) == 1
    assert said(report, "1 ground-truth picture has no answer and counts as wrong")
    report = evaluate(folder, answers(lambda r: r if "cat/0" not in r["file_name"] else {"file_name": r["file_name"], "error": "truncated"}))
    assert said(report, "could not be read by the classifier")
    assert report["counts"]["unanswered"] == 1


def test_a_class_unknown_to_the_truth_is_a_wrong_answer(folder: Path, answers: Answers) -> None:
    def strange(record: dict) -> dict:
        record["labels"].insert(0, {"category_id": 99, "category": "yak", "score": 1.0})
        return record

    report = evaluate(folder, answers(strange))
    assert report["metrics"]["accuracy"] == 0
    assert said(report, "unknown to the ground truth, each of which counts as wrong: 99 (yak)")


def test_what_cannot_be_measured_is_null(folder: Path, answers: Answers) -> None:
    report = evaluate(folder, answers(top=1))
    assert report["metrics"]["top5_accuracy"] is None
    assert said(report, "top5_accuracy is not measured")

    def bare(record: dict) -> dict:
        return record | {"labels": [{k: v for k, v in e.items() if k != "score"} for e in record["labels"]]}

    report = evaluate(folder, answers(bare))
    assert report["metrics"]["ECE"] is None
    assert said(report, "without a score: ECE is not measured")
    report = evaluate(folder, answers(lambda r: r | {"labels": [e | {"score": 40 * e["score"]} for e in r["labels"]]}))
    assert said(report, "scores outside [0, 1]")


def test_some_classes_only(folder: Path, answers: Answers) -> None:
    report = evaluate(folder, answers(), classes=["cat", "dog"])
    assert report["counts"]["images"] == 6
    assert sum(map(sum, report["confusion"]["matrix"])) == 6


@pytest.mark.parametrize("more", [{"iou_type": "segm"}, {"max_det": 5}, {"backend": "pycocotools"}])
def test_options_for_detections_have_no_effect_here(folder: Path, answers: Answers, more: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="has no effect: the ground truth is for classification"):
        evaluate(folder, answers(), **more)


def test_what_cannot_be_compared_is_an_error(tmp_path: Path, folder: Path, answers: Answers) -> None:
    (tmp_path / "dt.jsonl").write_text(
        json.dumps({"file_name": "x.jpg", "annotations": [{"bbox": [1, 1, 2, 2], "category_id": 1, "score": 1}]}) + "\n"
    )
    with pytest.raises(InputError, match="here are objects"):
        evaluate(folder, tmp_path / "dt.jsonl")
    with pytest.raises(InputError, match="no detected image is in the ground truth"):
        evaluate(folder, answers(lambda r: r | {"file_name": "other/" + Path(r["file_name"]).name.replace(".", "x.")}))
    with pytest.raises(InputError, match="no category in common"):
        evaluate(folder, answers(lambda r: r | {"labels": [{"category_id": 77, "category": "yak", "score": 1.0}]}))
    text = json.dumps({"file_name": "a.jpg", "labels": [{"category_id": 1, "category": "cat"}, {"category_id": 2, "category": "dog"}]}) + "\n"
    (tmp_path / "gt.jsonl").write_text(text)
    with pytest.raises(InputError, match="2 class labels"):
        evaluate(tmp_path / "gt.jsonl", tmp_path / "gt.jsonl")


def test_the_command_draws_the_matrix(tmp_path: Path, folder: Path, answers: Answers, cvtool) -> None:
    words = ("evaluate", "--gt", folder, "--dt", "-", "--plot", "matrix.png")
    done = cvtool(*words, input=answers().read_text())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["accuracy"] > 0
    with Image.open(tmp_path / "matrix.png") as picture:
        assert picture.width > 7 * 50
    assert cvtool(*words, input=answers().read_text()).returncode == 2


# --- label maps ------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def maps(tmp_path: Path) -> tuple[Path, list[np.ndarray], list[np.ndarray]]:
    """A data set of three label maps (classes 0..3, 7 is void) and what was found: the truth, disturbed."""
    draw = np.random.default_rng(5)
    true, found = [], []
    root = tmp_path / "maps"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    (root / "classes.txt").write_text("0 road\n1 car\n2 tree\n3 sky\n7 void\n")
    for i in range(3):
        t = draw.integers(0, 4, (6, 8)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
        t[draw.random(t.shape) < 0.1] = 7
        f = np.where(draw.random(t.shape) < 0.3, draw.integers(0, 4, t.shape), np.where(t == 7, 0, t)).astype(np.uint8)
        Image.new("RGB", (32, 24)).save(root / "images" / f"{i}.png")
        Image.fromarray(t).save(root / "masks" / f"{i}.png")
        true.append(t)
        found.append(f)
    return root, true, found


def expected(true: list[np.ndarray], found: list[np.ndarray]) -> dict[str, float]:
    t, f = (np.concatenate([m.ravel() for m in maps]) for maps in (true, found))
    known = t != 7
    iou = theirs.jaccard_score(t[known], f[known], average=None, labels=range(4))
    return {
        "mIoU": pytest.approx(iou.mean()),
        "pixel_accuracy": pytest.approx(theirs.accuracy_score(t[known], f[known])),
        "class_accuracy": pytest.approx(theirs.balanced_accuracy_score(t[known], f[known])),
        "frequency_weighted_IoU": pytest.approx((np.bincount(t[known], minlength=4) / known.sum() * iou).sum()),
        "mIoU_void_counted": pytest.approx(theirs.jaccard_score(t, f, average=None, labels=range(4)).mean()),
    }


def test_maps_as_run_lengths_and_as_pictures(tmp_path: Path, maps) -> None:
    root, true, found = maps
    lines = []
    for i, f in enumerate(found):
        entries = [{"category_id": k, "category": name, "segmentation": rle(f == k)[0]} for k, name in enumerate(("road", "car", "tree", "sky"))]
        lines.append(json.dumps({"file_name": f"{i}.jpg", "width": 32, "height": 24, "annotations": entries}))
    (tmp_path / "found.jsonl").write_text("\n".join(lines) + "\n")
    report = evaluate(root, tmp_path / "found.jsonl", per_class=True)
    assert report["metrics"] == report["metrics"] | expected(true, found)
    assert report["task"] == "segmentation"
    assert report["counts"]["void_pixels"] == sum(int((t == 7).sum()) for t in true)
    assert report["per_class"]["car"]["pixels"] == sum(int((t == 1).sum()) for t in true)
    assert "void pixels are left out" in report["matching"]
    assert "mIoU if what was found on void pixels counts as wrong" in "\n".join(table(report))

    out = tmp_path / "found"
    out.mkdir()
    for i, f in enumerate(found):
        Image.fromarray(f).save(out / f"{i}.png")
    assert evaluate(root, out)["metrics"] == expected(true, found)
    (out / "classes.txt").write_text("0 sky\n1 car\n2 tree\n3 road\n")  # numbered otherwise
    turned = [np.where(f == 0, 3, np.where(f == 3, 0, f)) for f in found]
    report = evaluate(root, out)
    assert report["metrics"] == expected(true, turned)
    assert said(report, "matched by name")


def test_a_map_of_another_size_and_values_that_are_no_class(tmp_path: Path, maps) -> None:
    root, _, found = maps
    out = tmp_path / "found"
    out.mkdir()
    for i, f in enumerate(found):
        Image.fromarray(f[:20] if i == 1 else f).save(out / f"{i}.png")
    with pytest.raises(InputError, match="the map is 32 x 20, the truth 32 x 24") as stop:
        evaluate(root, out)
    assert "1.png" in str(stop.value)
    (out / "1.png").unlink()
    report = evaluate(root, out)
    assert said(report, "1 ground-truth picture has no map among the answers")
    with Image.open(root / "masks" / "0.png") as picture:
        pixels = np.array(picture)
    pixels[0, 0] = 9
    Image.fromarray(pixels).save(root / "masks" / "0.png")
    with pytest.raises(InputError, match=r"the label 9 is none of those in classes\.txt"):
        evaluate(root, out)


def test_written_maps_score_one(tmp_path: Path) -> None:
    """What the `masks` format writes, against itself."""
    draw = np.random.default_rng(0)
    records = []
    for i in range(2):
        Image.new("RGB", (20, 10)).save(tmp_path / f"{i}.png")
        entry = {"category_id": 1, "category": "cell", "segmentation": rle(draw.random((10, 20)) < 0.5)[0], "bbox": [0, 0, 20, 10]}
        records.append(Record(file_name=str(tmp_path / f"{i}.png"), width=20, height=10, annotations=[entry]))
    masks.write(records, tmp_path / "set")
    report = evaluate(tmp_path / "set", tmp_path / "set" / "masks", data_format="masks")
    assert report["metrics"]["mIoU"] == 1
    assert report["metrics"]["pixel_accuracy"] == 1


def test_folders_of_maps_need_no_data_set_around_them(tmp_path: Path) -> None:
    """`--gt labels/ --dt masks/`: the classes are the values found, or those of classes.txt; --void says which are none."""
    draw = np.random.default_rng(3)
    true, found = draw.integers(0, 4, (2, 3, 20, 30)).astype(np.uint8)
    for name, values in (("labels", true), ("masks", found)):
        (tmp_path / name).mkdir()
        for i, each in enumerate(values):
            Image.fromarray(each).save(tmp_path / name / f"{i}.png")
    labels, made = tmp_path / "labels", tmp_path / "masks"
    report = evaluate(labels, made, metrics="miou")
    assert report["metrics"]["mIoU"] == pytest.approx(theirs.jaccard_score(true.ravel(), found.ravel(), average="macro"))
    assert report["confusion"]["categories"] == ["class0", "class1", "class2", "class3"]
    kept = true != 3
    without = theirs.jaccard_score(true[kept], found[kept], average="macro", labels=[0, 1, 2])
    assert evaluate(labels, made, metrics="miou", void="3")["metrics"]["mIoU"] == pytest.approx(without)
    (tmp_path / "classes.txt").write_text("0 sky\n1 road\n2 car\n3 void\n")
    named = evaluate(labels, made, metrics="miou")
    assert named["metrics"]["mIoU"] == pytest.approx(without)
    assert named["confusion"]["categories"] == ["sky", "road", "car"]
    assert evaluate(labels / "0.png", made / "1.png", metrics="miou")["counts"]["images_matched"] == 1
    with pytest.raises(UsageError, match="not whole numbers"):
        evaluate(labels, made, metrics="miou", void="sky")
    with pytest.raises(UsageError, match="leaves no class"):
        evaluate(labels, made, metrics="miou", void="0,1,2")


def test_bare_pictures_are_asked_what_to_measure_of_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name / "0.png")
    with pytest.raises(InputError, match="cannot be told") as caught:
        evaluate(tmp_path / "a", tmp_path / "b")
    assert {"mean-iou", "psnr", "fid"} <= set(caught.value.hint.replace(",", "").split())
    assert "wer" not in caught.value.hint
