"""`evaluate` of texts and of regions of text: files on both sides, pairing, what is said, and real data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cvtool.errors import InputError, UsageError
from cvtool.tasks.evaluate import evaluate, measure
from cvtool.tasks.evaluation import Options
from cvtool.tasks.evaluation._text_files import reading_order

ALL = "cer,wer,word-accuracy"


@pytest.fixture
def write(tmp_path):
    def make(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return make


@pytest.fixture
def truth(write):
    return write("truth.tsv", '\ufeffa.jpg\t"quoted" word\nfolder/b.jpg\tone two\nc.jpg\tx\n')


def test_records_against_a_table(truth, write):
    lines = [
        {"file_name": "x/a.jpg", "text": '"quoted" word'},
        {"file_name": "b.jpg", "annotations": [{"bbox": [50, 1, 9, 9], "text": "tow"}, {"bbox": [0, 0, 9, 9], "text": "one"}]},
    ]
    report = evaluate(truth, write("ocr.jsonl", "\n".join(map(json.dumps, lines))), metrics=ALL)
    assert report["metrics"] == pytest.approx({"CER": 3 / 21, "WER": 2 / 5, "word_accuracy": 1 / 3})
    assert report["counts"]["unanswered"] == 1
    assert any("1 ground-truth text has no counterpart and counts as read as nothing: c.jpg" in line for line in report["warnings"])
    counts = report["counts"]
    assert [counts[f"character_{key}"] for key in ("insertions", "deletions", "substitutions")] == [1, 2, 0]  # t-ow: w moved; x gone
    assert counts["characters"] == 21
    assert report["params"]["cer.unicode"] == "nfc"


def test_units_resampling_and_slices(write):
    gt = write("gt.csv", 'file_name,text,kind\na.jpg,"one, two",x\nb.jpg,three,y\nc.jpg,four,y\n')
    dt = write("dt.json", {"a.jpg": "one, two", "b.jpg": "tree", "c.jpg": "for"})
    measured = measure(gt, dt, metrics=ALL, options=Options())
    assert measured.statistic(np.ones(3)) == pytest.approx(measured.metrics)
    assert measured.per_unit["CER"].tolist() == [0, 0.2, 0.25]
    assert measured.lower == ("CER", "WER")
    twice = measured.weighted(np.array([[1, 0, 3.0]]))
    assert twice["CER"][0] == pytest.approx(3 / (8 + 12))
    report = evaluate(gt, dt, metrics="word-accuracy", slices=["kind"], interval=0.9, resamples=20)
    assert report["slices"]["kind"]["x"]["word_accuracy"] == 1
    assert report["slices"]["kind"]["y"]["word_accuracy"] == 0


def test_folders_of_text_files(write, tmp_path):
    for name, text in {"p/1.gt.txt": "one\n", "p/1.txt": "onne\n", "p/2.gt.txt": "two\n", "p/2.txt": "two\n"}.items():
        write(name, text)
    report = evaluate(tmp_path / "p", tmp_path / "p", metrics="cer")
    assert report["metrics"]["CER"] == pytest.approx(1 / 6)
    assert report["counts"]["images"] == 2
    write("one.txt", "a page\nof two lines")
    assert evaluate(tmp_path / "one.txt", tmp_path / "p" / "1.txt", metrics="wer")["counts"]["words"] == 5


def test_other_shapes(write):
    listed = write("gt.txt", 'a.png, "Genaxis, Theatre"\nb.png, "[06]"\n')
    document = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "text": "Genaxis, Theatre"}],
        "categories": [{"id": 1, "name": "text"}],
    }
    assert evaluate(listed, write("dt.json", document), metrics="word-accuracy")["metrics"]["word_accuracy"] == 0.5
    rows = [{"file_name": "a.png", "text": "Genaxis, Theatre"}, {"file_name": "b.png", "text": "[06]"}]
    assert evaluate(listed, write("rows.json", rows), metrics="wer")["metrics"]["WER"] == 0
    assert evaluate(listed, write("t.txt", "a.png\tGenaxis, Theatre\nb.png\t[06]"), metrics="wer")["metrics"]["WER"] == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dt.tsv", "a.jpg\tx\na.jpg\ty\n", "a.jpg stands there twice"),
        ("dt.tsv", "a.jpg\tx\nb.jpg\n", "a line of one column"),
        ("dt.json", [1, 2], "no texts in a form that is known"),
        ("dt.jsonl", '{"file_name": "a.jpg"}\n', "1 picture without a text: a.jpg"),
        ("dt.png", "x", "not a file of texts"),
        ("dt.tsv", "z.jpg\tx\ny.jpg\tx\n", "no detected image is in the ground truth"),
    ],
)
def test_what_cannot_be_read_is_said(truth, write, name, content, message):
    with pytest.raises(InputError, match=message):
        evaluate(truth, write(name, content), metrics="cer")


def test_what_has_no_effect_or_no_sense(truth, write):
    latin = write("dt.tsv", "a.jpg\tx\nb.jpg\tx\n")
    latin.write_bytes("a.jpg\tCaf\xe9\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        evaluate(truth, latin, metrics="cer")
    with pytest.raises(UsageError, match="--split"):
        evaluate(truth, truth, metrics="cer", split="val")
    with pytest.raises(UsageError, match="two of these metrics report 'CER'"):
        evaluate(truth, truth, metrics="cer,cer:case=false")
    empty = evaluate(write("e.tsv", "a.jpg\t\nb.jpg\tx\n"), write("f.tsv", "a.jpg\tyy\nb.jpg\tx\n"), metrics="cer")
    assert empty["metrics"]["CER"] == 2.0
    assert any("1 true text without a character: a.jpg" in line for line in empty["warnings"])


def test_reading_order_goes_by_lines():
    boxes = {"c": [0, 22, 10, 10], "b": [30, 3, 10, 8], "a": [0, 0, 10, 12], "d": [20, 20, 10, 10]}
    assert reading_order([{"text": text, "bbox": box} for text, box in boxes.items()]) == "a b\nc d"
    assert reading_order([{"text": "z"}, {"text": "y", "bbox": [0, 0, 1, 1]}]) == "z y"
    assert reading_order([]) == ""


def test_real_words(data, tmp_path):
    table = data / "ocr_words_iiit5k" / "test.tsv"
    report = evaluate(table, table, metrics=ALL)
    assert report["metrics"] == {"CER": 0.0, "WER": 0.0, "word_accuracy": 1.0}
    assert report["counts"]["images"] == 3000
    loud = tmp_path / "loud.tsv"
    loud.write_text("".join(f"{name}\t{text.upper()}.\n" for name, text in (line.split("\t") for line in table.read_text().splitlines())))
    assert evaluate(table, loud, metrics="word-accuracy")["metrics"]["word_accuracy"] == 0
    assert evaluate(table, loud, metrics="word-accuracy:case=false,alnum=true")["metrics"]["word_accuracy"] == 1


# ---- regions of text -------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def regions(write, tmp_path):
    write("gt/gt_img_1.txt", "\ufeff0,0,10,0,10,10,0,10,Stop, now\r\n20,0,30,0,30,10,20,10,###\r\n")
    write("gt/gt_img_2.txt", "0,0,10,0,10,10,0,10,go\n")
    write("dt/res_img_1.txt", "0,0,10,0,10,9,0,9,stop, now\n21,1,29,1,29,9,21,9,x\n")
    write("dt/res_img_2.txt", "1,0,10,0,10,10,1,10,no\n50,50,60,50,60,60,50,60,y\n")
    return tmp_path / "gt", tmp_path / "dt"


def test_regions_found_and_read(regions):
    report = evaluate(*regions, metrics="icdar")
    assert report["metrics"] == pytest.approx(
        {"precision": 2 / 3, "recall": 1, "hmean": 0.8, "e2e_precision": 1 / 3, "e2e_recall": 0.5, "e2e_hmean": 0.4}
    )
    assert report["counts"]["spared"] == 1
    measured = measure(*regions, metrics="end-to-end", options=Options())
    assert measured.units == ["img_1.txt", "img_2.txt"]
    assert measured.statistic(np.ones(2)) == pytest.approx(measured.metrics)
    assert measured.per_unit["precision"].tolist() == [1, 0.5]
    assert measured.weighted(np.array([[1, 0.0], [0, 2]]))["hmean"] == pytest.approx([1, 2 / 3])


def test_records_scores_and_crossing_sides(regions, write):
    lines = [
        {"file_name": "img_1.jpg", "annotations": [{"quad": [0, 0, 10, 10, 10, 0, 0, 10], "score": 0.9, "category_id": 1}]},
        {"file_name": "img_2.jpg", "annotations": [{"bbox": [0, 0, 10, 10], "score": 0.2, "category_id": 1}]},
    ]
    records = write("dt.jsonl", "\n".join(map(json.dumps, lines)))
    report = evaluate(regions[0], records, metrics="icdar")
    assert report["metrics"] == {"precision": 1.0, "recall": 1.0, "hmean": 1.0}
    assert any("1 found region whose sides crossed" in line for line in report["warnings"])
    assert any("have no texts" in line for line in report["warnings"])
    assert evaluate(regions[0], records, metrics="icdar:min_score=0.5")["metrics"]["recall"] == 0.5
    write("dt/res_img_1.txt", "0,0,10,0,10,9,0,9,0.9,stop, now\n")
    write("dt/res_img_2.txt", "1,0,10,0,10,10,1,10,0.3,go\n")
    assert evaluate(*regions, metrics="icdar:min_score=0.5")["metrics"]["e2e_recall"] == 0.5
    write("dt/res_img_2.txt", "1,0,10,0\n")
    with pytest.raises(InputError, match="no region of text"):
        evaluate(*regions, metrics="icdar")


def test_real_regions(data, tmp_path):
    gt = data / "ocr_detect_ic15" / "gt"
    dt = tmp_path / "res"
    dt.mkdir()
    for path in gt.glob("*.txt"):
        rows = [line.split(",", 8) for line in path.read_text("utf-8-sig").splitlines()]
        moved = [",".join([*(str(int(value) + 300) for value in row[:8]), "elsewhere"]) for row in rows if row[8] != "###"]
        same = [",".join(row) for row in rows if row[8] != "###"]
        (dt / path.name.replace("gt_", "res_")).write_text("\n".join(same + moved))
    perfect = evaluate(gt, gt, metrics="icdar")
    assert set(perfect["metrics"].values()) == {1.0}
    assert perfect["counts"] | {"images": 60, "annotations": 230, "spared": 308} == perfect["counts"]
    report = evaluate(gt, dt, metrics="icdar")
    assert report["metrics"]["recall"] == 1
    assert 0.5 <= report["metrics"]["precision"] < 0.55  # some of those moved fall on regions that need not be read
