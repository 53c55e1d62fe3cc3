"""Instance maps: pixels that number the objects, read as objects with masks and boxes; and what they are to models of boxes, masks and classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cvtool.annotations import rle
from cvtool.checkpoint import read_info
from cvtool.data import formats, source
from cvtool.data.dataset import Dataset, background, with_background
from cvtool.data.formats import _polygons, instances
from cvtool.errors import InputError, UsageError
from cvtool.losses.weighted_ce import border_weights
from cvtool.records import Record
from cvtool.tasks import segment, train


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def cells(folder, *parts, kind=np.uint16):
    """A data set of one picture a part, with two objects that touch and a third in a corner; their numbers have a gap."""
    values = np.zeros((12, 16), kind)
    values[2:7, 1:5], values[3:9, 5:8], values[11, 15] = 7, 2, 9
    for part in parts or ("",):
        save(folder / part / "images" / f"a{part}.png", np.full((12, 16, 3), 90, np.uint8))
        save(folder / part / "labels" / f"a{part}.png", values)
    return values


MAPS = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.integers(1, 6))


@given(MAPS)
@settings(max_examples=150)
def test_objects_are_the_pixels_of_each_number(drawn):
    height, width, seed, most = drawn
    values = np.random.default_rng(seed).integers(0, most, (height, width)).astype(np.uint16) * 1000
    found = list(instances.objects(values))
    numbers = [number for number in np.unique(values) if number]
    assert len(found) == len(numbers)
    for entry, number in zip(found, numbers, strict=True):
        mask = values == number
        assert (entry["segmentation"], entry["area"]) == rle(mask)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert entry["bbox"] == [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]


@pytest.mark.parametrize("layout", ["", "train"])
def test_a_folder_is_read_as_objects(tmp_path, layout):
    folder = tmp_path / "nuclei"
    values = cells(folder, layout)
    assert formats.recognise(folder) == "instances"
    (record,) = instances.read(folder)
    assert (record["width"], record["height"], record.get("split")) == (16, 12, layout or None)
    name = "nuclei" if layout else "object"
    assert instances.categories(folder) == [{"id": 1, "name": name}]
    assert [(a["category_id"], a["category"], a["area"]) for a in record["annotations"]] == [(1, name, 18), (1, name, 20), (1, name, 1)]
    for a, number in zip(record["annotations"], (2, 7, 9), strict=True):
        assert (_polygons.mask(a["segmentation"], 16, 12) == (values == number)).all()
    with pytest.raises(InputError, match="no split 'test'"):
        list(instances.read(folder, split="test"))


def test_classes_txt_names_the_objects_and_several_names_speak_for_label_maps(tmp_path):
    cells(tmp_path)
    (tmp_path / "classes.txt").write_text("1 nucleus\n")
    assert formats.recognise(tmp_path) == "instances"
    assert instances.categories(tmp_path) == [{"id": 1, "name": "nucleus"}]
    (tmp_path / "classes.txt").write_text("2 sky\n7 road\n9 car\n")
    assert formats.recognise(tmp_path) == "masks"
    with pytest.raises(InputError, match="one category"):
        instances.categories(tmp_path)
    (tmp_path / "classes.txt").write_text("0 void\n300 tree\n")
    assert formats.recognise(tmp_path) == "masks"


def test_eight_bits_are_classes_and_a_mixture_is_asked_about(tmp_path):
    cells(tmp_path, kind=np.uint8)
    assert formats.recognise(tmp_path) == "masks"
    assert len(next(instances.read(tmp_path))["annotations"]) == 3  # where --data-format says so
    save(tmp_path / "images" / "b.png", np.zeros((12, 16, 3), np.uint8))
    save(tmp_path / "labels" / "b.png", np.zeros((12, 16), np.uint16))
    with pytest.raises(UsageError, match="instances and masks") as caught:
        formats.recognise(tmp_path)
    assert "--data-format" in caught.value.hint


def test_what_is_written_comes_back_and_what_is_lost_is_said(tmp_path):
    cells(tmp_path / "in", "train", "val")
    records = list(instances.read(tmp_path / "in"))
    assert instances.write(records, tmp_path / "out") == []
    back = list(instances.read(tmp_path / "out"))
    assert formats.recognise(tmp_path / "out") == "instances"
    assert [r["split"] for r in back] == ["train", "val"]
    same = [{k: v for k, v in a.items() if k != "category"} for r in records for a in r["annotations"]]
    assert [{k: v for k, v in a.items() if k != "category"} for r in back for a in r["annotations"]] == same
    assert {a["category"] for r in back for a in r["annotations"]} == {"in"}

    first, second, third = records[0]["annotations"]
    changed = records[0].with_annotations([first | {"category_id": 4}, second | {"iscrowd": 1}, {"bbox": [0, 0, 2, 2], "category_id": 1}, third])
    gone = Record(file_name=str(tmp_path / "none.png"), annotations=[])
    assert instances.write([changed, gone], tmp_path / "less") == [
        "1 picture not found, so images/ lacks them (--images DIR says where they are)",
        "1 annotation without a mask left out",
        "1 crowd region left out: instance maps hold single objects",
        "the size of 1 picture is not known, so there is no map of them",
        "instance maps hold one category: 2 became one",
    ]
    assert [a["area"] for a in next(instances.read(tmp_path / "less"))["annotations"]] == [18, 1]
    with pytest.raises(InputError, match="no file name"):
        instances.write([records[0].changed(split="a/b")], tmp_path / "bad")


def test_nuclei_are_objects(data):
    folder = data / "nuclei"
    assert formats.recognise(folder) == "instances"
    assert instances.splits(folder) == ["train", "val"]
    train, val, categories = source.read({"data": str(folder)})
    assert (len(train), len(val), categories) == (200, 40, [{"id": 1, "name": "nuclei"}])
    for record in val[:5]:
        values = np.asarray(Image.open(record["file_name"].replace("/images/", "/labels/")))
        assert sorted(a["area"] for a in record["annotations"]) == sorted(np.unique(values[values > 0], return_counts=True)[1].tolist())


# --- as targets ----------------------------------------------------------------------------------------------------------------------------------


def test_detectors_and_mask_models_learn_from_them(tmp_path):
    values = cells(tmp_path)
    train, _, categories = source.read({"data": str(tmp_path)})
    target = Dataset(train, categories, needs=("boxes", "masks"))[0].target
    assert target.boxes.tolist() == [[5, 3, 8, 9], [1, 2, 5, 7], [15, 11, 16, 12]]
    assert target.labels.tolist() == [0, 0, 0]
    assert all((mask.numpy() == (values == number)).all() for mask, number in zip(target.masks, (2, 7, 9), strict=True))


def test_a_model_of_pixels_learns_the_background_as_a_class(tmp_path):
    values = cells(tmp_path)
    train, _, categories = source.read({"data": str(tmp_path)})
    table = with_background(categories, train)
    assert table == [None, {"id": 1, "name": "object"}]
    target = Dataset(train, table, needs=("semantic",))[0].target
    assert (target.labels.numpy() == (values > 0)).all()
    assert target.weights is None


def test_a_background_that_the_data_name_is_that_one(tmp_path):
    cells(tmp_path)
    train, _, _ = source.read({"data": str(tmp_path)})
    table = [{"id": 1, "name": "object"}, {"id": 5, "name": "Background"}]
    assert with_background(table, train) is table
    assert background(table) == 1
    assert Dataset(train, table, needs=("semantic",))[0].target.labels.unique().tolist() == [0, 1]


def test_where_label_maps_are_the_truth_what_is_unlabelled_stays_unknown(tmp_path):
    cells(tmp_path, kind=np.uint8)
    (tmp_path / "classes.txt").write_text("0 void\n2 a\n7 b\n9 void\n")
    train, _, categories = source.read({"data": str(tmp_path)})
    assert with_background(categories, train) is categories
    assert Dataset(train, categories, needs=("semantic",))[0].target.labels.unique().tolist() == [0, 1, 255]


def test_crowds_are_no_class_and_lie_below_objects(tmp_path):
    values = cells(tmp_path)
    train, _, categories = source.read({"data": str(tmp_path)})
    crowd, mask = np.zeros((12, 16), bool), values == 7
    crowd[:4] = True
    train[0]["annotations"] += [{"iscrowd": 1, "category_id": 1, "bbox": [0, 0, 16, 4], "segmentation": rle(crowd)[0]}]
    labels = Dataset(train, with_background(categories, train), needs=("semantic",))[0].target.labels.numpy()
    assert (labels[crowd & (values == 0)] == 255).all()
    assert (labels[mask] == 1).all()
    assert (labels[~crowd & (values == 0)] == 0).all()


@pytest.mark.system("weighted-ce")
def test_the_border_map_of_the_objects_comes_with_the_target(tmp_path):
    values = cells(tmp_path)
    train, _, categories = source.read({"data": str(tmp_path)})
    target = Dataset(train, with_background(categories, train), needs=("semantic",), weighted=True)[0].target
    torch.testing.assert_close(target.weights, torch.from_numpy(border_weights(values)))
    assert target.weights.max() > 5
    assert (target.weights[torch.from_numpy(values == 9).bool()] == 1).all()


@pytest.mark.system("weighted-ce")
def test_training_weighs_the_borders_and_predictions_leave_the_background_out(tmp_path):
    cells(tmp_path / "cells", "train", "val")
    layers = [{"loss": "weighted-ce", "epochs": 2, "batch_size": 1, "augment": "flip"}]
    run = train.train("unet.tiny", tmp_path / "cells", output=tmp_path / "runs", layers=layers)
    info = read_info(run)
    assert info.categories == [None, {"id": 1, "name": "cells"}]
    assert {"val_weighted_ce", "val_mIoU"} <= set(info.metrics)
    (record,) = segment.segment(instances.read(tmp_path / "cells", split="val"), str(run))
    assert {a["category"] for a in record["annotations"]} <= {"cells"}
    assert record["made_by"][-1]["categories"] == [{"id": 1, "name": "cells"}]


def test_weights_need_objects(tmp_path):
    cells(tmp_path, kind=np.uint8)
    (tmp_path / "classes.txt").write_text("0 void\n2 a\n7 b\n9 c\n")
    with pytest.raises(InputError, match="weighs each pixel"):
        train.train("unet.tiny", tmp_path, output=tmp_path / "runs", layers=[{"loss": "weighted-ce", "epochs": 1}])
