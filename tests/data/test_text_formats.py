"""Formats of text: lists of words, ICDAR's regions, docTR's labels, shards; each read as its field writes it, and back."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvtool import archives
from cvtool.data import formats
from cvtool.errors import InputError
from cvtool.records import Record

QUAD = [10.0, 5.0, 40.0, 8.0, 39.0, 20.0, 9.0, 17.0]


def jpeg(path: Path | None = None, size: tuple[int, int] = (60, 30)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), 90, np.uint8)).save(file, format="JPEG")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())
    return file.getvalue()


def words(source: Path, name: str, **options) -> list[tuple[str, str]]:
    return [(Path(r["file_name"]).name, r["text"]) for r in formats.get(name).read(source, **options)]


def through(records: list[Record], name: str, out: Path) -> tuple[list[Record], list[str]]:
    notes = formats.get(name).write(records, out, copy_images=True)
    assert formats.recognise(out) == name
    return list(formats.get(name).read(out)), list(notes)


# ---- lists of words --------------------------------------------------------------------------------------------------


def test_lists_of_words_are_read_as_the_field_writes_them(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        jpeg(tmp_path / "set" / "train" / name)
    tabs, icdar = tmp_path / "set" / "train.tsv", tmp_path / "set" / "gt.txt"
    tabs.write_text('train/a.jpg\tGenaxis Theatre\r\n\ntrain/b.jpg\t"[06]"\n', encoding="utf-8")
    assert formats.recognise(tabs) == formats.recognise(tabs.parent) == "words"
    assert words(tabs, "words") == [("a.jpg", "Genaxis Theatre"), ("b.jpg", '"[06]"')]
    assert all(record.pixels().shape == (30, 60, 3) for record in formats.get("words").read(tabs))
    assert formats.get("words").splits(tabs.parent) == ["train"]
    assert words(tabs.parent, "words", split="train") == words(tabs, "words")
    tabs.unlink()
    icdar.write_text('\ufefftrain/a.jpg, "Genaxis, ""Theatre"\ntrain/b.jpg, "say \\"hi\\""\n', encoding="utf-8")
    assert formats.recognise(icdar) == "words"
    assert words(icdar, "words") == [("a.jpg", 'Genaxis, ""Theatre'), ("b.jpg", 'say "hi"')]
    assert formats.get("words").splits(icdar.parent) == []
    icdar.write_text("file_name\ttext\ntrain/a.jpg\tone\n", encoding="utf-8")
    assert words(icdar, "words") == [("a.jpg", "one")]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a.jpg\tone\na.jpg\n", "neither NAME<TAB>TEXT nor"),
        ("../a.jpg\tone\n", "leads out of the data root"),
        ("a.jpg\t\xff\n", "not UTF-8"),
    ],
)
def test_broken_lists_name_the_line(tmp_path, content, told):
    (tmp_path / "l.tsv").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=told):
        list(formats.get("words").read(tmp_path / "l.tsv"))
    with pytest.raises(InputError, match="no split 'val'"):
        list(formats.get("words").read(tmp_path, split="val"))


@pytest.mark.parametrize("name", ["words", "doctr", "webdataset"])
def test_words_go_through_a_format(tmp_path, name):
    records = [
        Record(file_name=str(tmp_path / part / "1.jpg"), text=text, split=part)
        for part, text in (("train", "naïve"), ("train", "#1"), ("val", "x\ty"))
    ]
    records[1]["file_name"] = str(tmp_path / "2.jpg")
    for record in records:
        jpeg(Path(record["file_name"]))
    back, _ = through(records, name, tmp_path / "out")
    assert [(r["split"], r["text"]) for r in back] == [("train", "naïve"), ("train", "#1"), ("val", "x\ty")]
    assert all(r.pixels().shape == (30, 60, 3) for r in back)
    assert formats.get(name).categories(tmp_path / "out") == []
    if name != "webdataset":
        _, notes = through([records[0], Record(file_name=records[1]["file_name"])], name, tmp_path / "silent")
        assert "1 picture without a text left out" in notes


def test_the_words_of_iiit5k_and_icdar_2015(data):
    for name, count, first in (("ocr_words_iiit5k", 3000, ("1002_1.jpg", "PRIVATE")), ("ocr_words_ic15", 4468, ("word_1.jpg", "Genaxis Theatre"))):
        assert formats.recognise(data / name) == "words"
        found = words(data / name, "words")
        assert len(found) == count
        assert found[0] == first
        record = next(iter(formats.get("words").read(data / name)))
        assert record.pixels().ndim == 3


# ---- regions ---------------------------------------------------------------------------------------------------------


def test_icdar_regions_are_read_line_by_line(tmp_path):
    jpeg(tmp_path / "images" / "img_1.jpg")
    (tmp_path / "gt").mkdir()
    file = tmp_path / "gt" / "gt_img_1.txt"
    file.write_text('\ufeff10,5,40,8,39,20,9,17,Hello, world\r\n1,1,9,1,9,9,1,9,###\n\n2,3,12,8,four\n2 3 12 8 "2013"\n', encoding="utf-8")
    assert formats.recognise(tmp_path) == "icdar"
    (record,) = formats.get("icdar").read(tmp_path)
    assert record.pixels().shape == (30, 60, 3)
    first, spared, four, blanks = record["annotations"]
    assert (first["segmentation"], first["text"], first["iscrowd"]) == ([QUAD], "Hello, world", 0)
    assert first["bbox"] == [9, 5, 31, 15]
    assert (spared["text"], spared["iscrowd"], spared["area"]) == ("###", 1, 64)
    assert (four["text"], four["bbox"]) == ("four", [2, 3, 10, 5])
    assert (blanks["text"], blanks["bbox"]) == ("2013", [2, 3, 10, 5])
    file.write_text("10,5,40,words\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"neither eight nor four numbers") as stop:
        list(formats.get("icdar").read(tmp_path))
    assert str(file) in str(stop.value)


def test_official_folders_of_other_names(tmp_path):
    jpeg(tmp_path / "ch4_test_images" / "img_7.jpg")
    (tmp_path / "Challenge4_Test_Task1_GT").mkdir()
    (tmp_path / "Challenge4_Test_Task1_GT" / "gt_img_7.txt").write_text("10,5,40,8,39,20,9,17,one\n", encoding="utf-8")
    (record,) = formats.get("icdar").read(tmp_path)
    assert record["file_name"] == str(tmp_path / "ch4_test_images" / "img_7.jpg")


@pytest.mark.parametrize(("name", "texts"), [("icdar", True), ("webdataset", True), ("doctr", False)])
def test_regions_go_through_a_format(tmp_path, name, texts):
    jpeg(tmp_path / "a.jpg")
    region = {"bbox": [9.0, 5.0, 31.0, 15.0], "segmentation": [QUAD], "category_id": 1, "category": "text"}
    spared = {"bbox": [1.0, 1.0, 8.0, 8.0], "category_id": 1, "category": "text", "iscrowd": 1}
    record = Record(file_name=str(tmp_path / "a.jpg"), width=60, height=30, annotations=[region | {"text": "one, two"}, spared])
    (back,), notes = through([record], name, tmp_path / "out")
    first, *rest = back["annotations"]
    assert first["segmentation"] == [QUAD]
    assert first["bbox"] == region["bbox"]
    assert formats.get(name).categories(tmp_path / "out") == [{"id": 1, "name": "text"}]
    assert back.pixels().shape == (30, 60, 3)
    if texts:
        assert first["text"] == "one, two"
        assert [one.get("iscrowd") for one in rest] == [1]
    else:
        assert not rest
        assert notes == ["regions have no text here: 1 text left out", "1 spared region left out"]
        entry = json.loads((tmp_path / "out" / "labels.json").read_text())["a.jpg"]
        assert entry["img_dimensions"] == [30, 60]
        assert len(entry["img_hash"]) == 64


def test_doctr_files_are_no_coco_documents(tmp_path):
    jpeg(tmp_path / "images" / "a.jpg")
    file = tmp_path / "labels.json"
    page = {"img_dimensions": [30, 60], "polygons": {"words": [[[10, 5], [40, 8], [39, 20], [9, 17]]]}}
    typed = {"typed_words": [{"geometry": [1, 2, 11, 12], "value": "hi"}]}
    for said, shape in ((page, QUAD), (typed, [1, 2, 11, 2, 11, 12, 1, 12])):
        file.write_text(json.dumps({"a.jpg": said}), encoding="utf-8")
        assert formats.recognise(file) == formats.recognise(tmp_path) == "doctr"
        (record,) = formats.get("doctr").read(file)
        assert record["annotations"][0]["segmentation"] == [shape]
        assert record.pixels().shape == (30, 60, 3)
    file.write_text(json.dumps({"a.jpg": {"polygons": [[[10, 5], [40, 8]]]}}), encoding="utf-8")
    with pytest.raises(InputError, match="neither a text nor polygons of four corners"):
        list(formats.get("doctr").read(file))
    file.write_text(json.dumps({"info": {}, "images": [], "annotations": []}), encoding="utf-8")
    assert formats.recognise(file) == "coco"


def test_the_regions_of_icdar_2015(data):
    records = list(formats.get("icdar").read(data / "ocr_detect_ic15"))
    assert formats.recognise(data / "ocr_detect_ic15") == "icdar"
    assert len(records) == 60
    assert all(record.size() == (1280, 720) for record in records[:3])
    assert sum(a["iscrowd"] for record in records for a in record["annotations"]) > 100
    assert {"END", "MILE"} <= {a["text"] for record in records for a in record["annotations"]}


# ---- shards ----------------------------------------------------------------------------------------------------------


def shard(path: Path, texts: dict[str, str]) -> Path:
    import tarfile

    with tarfile.open(path, "w") as archive:
        for key, text in texts.items():
            archives.add(archive, f"{key}.jpg", jpeg())
            archives.add(archive, f"{key}.txt", text.encode())
    return path


def test_key_txt_is_the_text_and_a_class_only_while_they_are_few(tmp_path, monkeypatch):
    from cvtool.data.formats import webdataset

    path = shard(tmp_path / "a.tar", {"a": "dog\n", "b": "cat", "c": "two\nlines"})
    found = list(webdataset.read(path))
    assert [r["text"] for r in found] == ["dog", "cat", "two\nlines"]
    assert [r.get("labels", [{}])[0].get("category") for r in found] == ["dog", "cat", None]
    monkeypatch.setattr(webdataset, "MOST_CLASSES", 1)
    found = list(webdataset.read(shard(tmp_path / "b.tar", {"a": "dog", "b": "cat"})))
    assert [r["text"] for r in found] == ["dog", "cat"]
    assert not any("labels" in r for r in found)
    assert webdataset.categories(tmp_path / "b.tar") == []


def test_csv_keeps_the_texts_of_words_and_of_pictures(tmp_path):
    from cvtool.data.formats import csv

    word = {"bbox": [1, 2, 30, 10], "category_id": 1, "category": "text", "score": 0.5, "text": 'a,"b"'}
    pages = [
        Record(file_name="a.png", width=9, height=9, annotations=[word], text="whole"),
        Record(file_name="b.png", width=9, height=9, text="wörd"),
    ]
    assert csv.write(pages, tmp_path / "x.csv") == []
    first, second = csv.read(tmp_path / "x.csv", resolve=False)
    assert first["annotations"][0]["text"] == 'a,"b"'
    assert second["text"] == "wörd"
    csv.write([Record(file_name="a.png", width=9, height=9, annotations=[])], tmp_path / "y.csv")
    assert "text" not in (tmp_path / "y.csv").read_text()


def test_the_strings_of_word_pictures_are_annotations_to_data_check(tmp_path):
    from cvtool.data.check import check

    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    (tmp_path / "train.tsv").write_text("a.png\tword\n")
    assert check([tmp_path / "train.tsv"]) == []
