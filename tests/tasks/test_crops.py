"""`cvtool data crops`: the objects of a data set as class folders."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from cvtool.cli import command
from cvtool.errors import InputError, PartialSuccess, UsageError
from cvtool.tasks import _crops
from cvtool.tasks import data as task


@pytest.fixture
def marked(tmp_path):
    """A picture of 60 x 40 whose pixels tell where they stand, as JSON lines; `marked(box, ...)`."""
    rows, columns = np.mgrid[:40, :60]
    Image.fromarray(np.stack([columns, rows, 0 * rows], 2).astype(np.uint8)).save(tmp_path / "a.png")

    def lines(*boxes, **more):
        found = [{"bbox": box, "category_id": 1 + i % 2, "category": ("cat", "dog")[i % 2]} for i, box in enumerate(boxes)]
        path = tmp_path / "data.jsonl"
        path.write_text(json.dumps({"file_name": str(tmp_path / "a.png"), "width": 60, "height": 40, "annotations": found} | more) + "\n")
        return path

    return lines


def corners(path):
    """Which pixels of the picture a crop holds: (left, top, right, bottom)."""
    values = np.asarray(Image.open(path)).astype(int)
    return values[0, 0, 0], values[0, 0, 1], values[-1, -1, 0] + 1, values[-1, -1, 1] + 1


def test_without_a_size_a_crop_is_its_box_and_margin(marked, tmp_path):
    source = marked([10, 5, 20, 8], [50, 30, 30, 30], [70, 0, 5, 5])
    counts, failed, notes = _crops.crops(task.open_data(source), tmp_path / "plain")
    assert (counts, failed) == ({"cat": 1, "dog": 1}, 0)
    assert notes == ["1 boxes without a pixel left out"]
    assert corners(tmp_path / "plain/cat/a_1.png") == (10, 5, 30, 13)
    assert corners(tmp_path / "plain/dog/a_2.png") == (50, 30, 60, 40)  # cut at the border
    _crops.crops(task.open_data(source), tmp_path / "wide", margin=0.1)
    assert corners(tmp_path / "wide/cat/a_1.png") == (8, 3, 32, 15)


def test_with_a_size_it_is_a_square_that_stays_inside(marked, tmp_path):
    source = marked([10, 15, 20, 8], [50, 33, 10, 6], [0, 0, 58, 38])
    _crops.crops(task.open_data(source), tmp_path / "own", size=20)
    assert corners(tmp_path / "own/cat/a_1.png") == (10, 9, 30, 29)
    _crops.crops(task.open_data(source), tmp_path / "out", size=10)
    assert {Image.open(path).size for path in (tmp_path / "out").rglob("*.png")} == {(10, 10)}
    assert corners(tmp_path / "out/dog/a_2.png") == (50, 30, 60, 40)  # moved up by a pixel
    values = np.asarray(Image.open(tmp_path / "out/cat/a_3.png")).astype(int)  # 40 x 40, all the height, in the middle of the box
    assert values[0, 0, 0] == pytest.approx(9 + 1.5, abs=1)
    assert values[-1, -1, 1] == pytest.approx(38, abs=1)


def test_what_cannot_be_cut(marked, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no boxes"):
        _crops.crops(task.open_data(marked()), tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="-o is missing"):
        command("data").main(["crops", str(marked([1, 1, 5, 5]))], standalone_mode=False)
    path = marked([1, 1, 5, 5])
    path.write_text(path.read_text() + json.dumps({"file_name": "gone.png", "annotations": []}) + "\n")
    with pytest.raises(PartialSuccess, match="1 pictures"):
        command("data").main(["crops", str(path), "-o", "made", "-q"], standalone_mode=False)
    assert (tmp_path / "made/cat/a_1.png").is_file()
    with pytest.raises(UsageError, match="exist"):
        command("data").main(["crops", str(path), "-o", "made", "-q"], standalone_mode=False)


def test_cells_of_blood(data, tmp_path):
    """The classes of a real VOC data set, its parts kept unless one is chosen, and what is made trains a classifier."""
    source = task.open_data(data / "bccd", split="test")
    source = task.DataSet(source.path, _Few(source.module, 3), None, "test")
    counts, _, _ = _crops.crops(source, tmp_path / "cells", size=32, margin=0.1)
    assert set(counts) == {"RBC", "WBC", "Platelets"}
    found = task.open_data(tmp_path / "cells")
    assert [row["name"] for row in task.stats(found)["categories"]] == ["Platelets", "RBC", "WBC"]
    assert task.stats(found)["images"] == sum(counts.values())
    source.split = None
    _crops.crops(source, tmp_path / "parts", size=32)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["test"]


class _Few:
    """The first records of a format's reader."""

    def __init__(self, module, count):
        self.module, self.count = module, count

    def read(self, path, *, images, split):
        for i, record in enumerate(self.module.read(path, images=images, split="test")):
            if i == self.count:
                return
            yield record
