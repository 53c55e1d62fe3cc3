"""Data as people have them: empty folders, one class only, broken pictures, maps of another size, boxes outside; each named, none in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool.batch import Prepare
from cvtool.data import augment, formats, source, synth
from cvtool.data.dataset import Dataset
from cvtool.data.formats import csv, folder, masks
from cvtool.data.loader import Loader
from cvtool.errors import InputError
from cvtool.records import Record

# --- class folders and tables ----------------------------------------------------------------------------------------------------------------


def test_an_empty_class_folder_is_a_class_that_is_warned_of(tmp_path: Path, png) -> None:
    for name in ("cat", "dog"):
        png(f"set/{name}/0.png", 8, 8)
    (tmp_path / "set" / "yak").mkdir()
    assert formats.recognise(tmp_path / "set") == "folder"
    records, _, categories = source.read({"data": str(tmp_path / "set")})
    assert [c["name"] for c in categories] == ["cat", "dog", "yak"]
    notes = Dataset(records, categories, needs=("labels",)).check()
    assert notes == ["warning: 1 of 3 classes without a picture to learn from, which will not be found: yak"]


def test_one_class_only_is_refused_with_what_to_do(tmp_path: Path, png) -> None:
    png("set/cat/0.png", 8, 8)
    (tmp_path / "set" / "dog").mkdir()
    with pytest.raises(InputError, match="pictures of one class only") as stop:
        source.read({"data": str(tmp_path / "set")})
    assert "cat" in str(stop.value)
    assert "folder beside it" in str(stop.value)
    records, _, categories = source.read({"data": str(tmp_path / "set"), "data_format": "folder"})
    with pytest.raises(InputError, match="all 1 pictures to learn from are of one class, 'cat'"):
        Dataset(records, categories, needs=("labels",)).check()
    for part in ("train", "val"):
        png(f"parts/{part}/cat/0.png", 8, 8)
    png("parts/train/dog/0.png", 8, 8)
    assert formats.recognise(tmp_path / "parts") == "folder"  # a part may lack a class
    assert folder.only_class(tmp_path / "parts") is None


def test_a_table_of_files_and_labels(tmp_path: Path, png) -> None:
    for i in range(3):
        png(f"pictures/{i}.png", 8, 8)
    (tmp_path / "labels.csv").write_text("file,label\npictures/0.png,dog\npictures/1.png,cat\npictures/2.png,dog\n")
    assert formats.recognise(tmp_path / "labels.csv") == "csv"
    records, _, categories = source.read({"data": str(tmp_path / "labels.csv")})
    assert [c["name"] for c in categories] == ["cat", "dog"]
    assert [Dataset(records, categories, needs=("labels",))[i].target.labels.tolist() for i in range(3)] == [[1], [0], [1]]
    (tmp_path / "numbers.csv").write_text("image_path,label\npictures/0.png,10\npictures/1.png,9\n")
    assert csv.categories(tmp_path / "numbers.csv") == [{"id": 9, "name": "9"}, {"id": 10, "name": "10"}]
    (tmp_path / "hole.csv").write_text("file,label\npictures/0.png,dog\n,cat\n")
    with pytest.raises(InputError, match="without a file name") as stop:
        source.read({"data": str(tmp_path / "hole.csv")})
    assert "hole.csv, line 3" in str(stop.value)
    (tmp_path / "gone.csv").write_text("file,label\npictures/0.png,dog\npictures/9.png,cat\n")
    with pytest.raises(InputError, match="1 of 2 pictures are missing") as stop:
        source.read({"data": str(tmp_path / "gone.csv")})
    assert "9.png" in str(stop.value)


def test_several_labels_of_a_picture_are_refused(tmp_path: Path) -> None:
    records = [Record(file_name="a.png", labels=[{"category_id": 1, "category": "cat"}, {"category_id": 2, "category": "dog"}])]
    with pytest.raises(InputError, match="2 class labels: cat, dog") as stop:
        Dataset(records, [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}], needs=("labels",)).check()
    assert "a.png" in str(stop.value)


# --- boxes and maps --------------------------------------------------------------------------------------------------------------------------


def test_boxes_over_the_edge_and_outside_are_counted() -> None:
    boxes = ([-3, -2, 6, 6], [15, 5, 50, 50], [25, 1, 4, 4], [5, 5, 0, 4], [1, 1, 9, 9], [0.2, 0.1, 20.1, 10])
    record = Record(file_name="a.png", width=20, height=10, annotations=[{"bbox": box, "category_id": 1} for box in boxes])
    dataset = Dataset([record], [{"id": 1, "name": "cat"}])
    assert dataset.check() == [
        "2 boxes reach over the edge of their picture and are clipped, the first in a.png",
        "2 boxes have no area in their picture and are left out, the first in a.png",
    ]
    assert len(dataset.target(record, 10, 20)) == 4


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Three pictures with label maps of classes 0 and 1; 5 is void."""
    for name in ("images", "masks"):
        (tmp_path / "set" / name).mkdir(parents=True)
    (tmp_path / "set" / "classes.txt").write_text("0 ground\n1 road\n5 void\n")
    for i in range(3):
        Image.new("RGB", (12, 8), (i, 0, 0)).save(tmp_path / "set" / "images" / f"{i}.jpg")
        Image.fromarray(np.array([0, 1, 5, 255], np.uint8).repeat(24).reshape(8, 12)).save(tmp_path / "set" / "masks" / f"{i}.png")
    return tmp_path / "set"


def test_labels_out_of_range_are_refused_with_their_file(maps: Path) -> None:
    records, _, categories = source.read({"data": str(maps)})
    dataset = Dataset(records, categories, needs=("semantic",))
    assert sorted(dataset[0].target.labels.unique().tolist()) == [0, 1, 255]
    Image.fromarray(np.full((8, 12), 77, np.uint8)).save(maps / "masks" / "1.png")
    with pytest.raises(InputError, match=r"the label 77 is none of those in classes\.txt") as stop:
        dataset[1]
    assert "masks/1.png" in str(stop.value)
    (maps / "classes.txt").unlink()  # then the values found are the classes
    records, _, categories = source.read({"data": str(maps)})
    assert [c["id"] for c in categories] == [0, 1, 5, 77]


def test_a_map_of_another_size_and_one_in_colour(maps: Path) -> None:
    Image.new("L", (5, 5)).save(maps / "masks" / "0.png")
    Image.new("RGB", (12, 8)).save(maps / "masks" / "1.png")
    records, _, categories = source.read({"data": str(maps)})
    dataset = Dataset(records, categories, needs=("semantic",))
    with pytest.raises(InputError, match="is 5 x 5, its picture 12 x 8"):
        dataset[0]
    with pytest.raises(InputError, match="not a label map: its pixels are RGB"):
        dataset[1]
    assert set(dataset.bad) == {0, 1}


def test_two_maps_of_a_picture_and_two_pictures_of_a_map(maps: Path) -> None:
    Image.new("L", (12, 8)).save(maps / "masks" / "0.bmp")
    with pytest.raises(InputError, match=r"two maps of one name, 0\.bmp and 0\.png"):
        list(masks.read(maps))
    (maps / "masks" / "0.bmp").unlink()
    Image.new("RGB", (12, 8)).save(maps / "images" / "2.png")
    with pytest.raises(InputError, match="have the same map"):
        list(masks.read(maps))


# --- pictures that cannot be read ------------------------------------------------------------------------------------------------------------


def broken(count: int = 12, bad: tuple[int, ...] = (3, 7)) -> list[Record]:
    """Made-up pictures of which some are cut off."""
    records = synth.shapes(count, 40, seed=3)
    for index in bad:
        assert records[index].data
        records[index].data = records[index].data[:200]
    return records


def make(records: list[Record], **more) -> Loader:
    given = {"batch_size": 4, "seed": 5, "augment": augment.pipeline("flips,crop,color"), "unreadable": "replace"} | more
    return Loader(Dataset(records, synth.CATEGORIES), Prepare(resize="stretch", size=32), **given)


def test_a_broken_picture_changes_nothing_for_the_others() -> None:
    """Its place is taken by another, always the same; order, random numbers and pixels of all others are those of a data set without damage."""
    whole, damaged = make(broken(bad=())), make(broken())
    for epoch in range(2):
        for a, b, entries in zip(whole.epoch(epoch), damaged.epoch(epoch), damaged.plan(epoch), strict=True):
            for place, index in enumerate(entries):
                if index in (3, 7):
                    assert b.indices[place] not in (3, 7)
                    assert b.names[place] == f"{b.indices[place]:05d}.png"
                else:
                    assert a.names[place] == b.names[place]
                    assert torch.equal(a.batch.images[place], b.batch.images[place])
                    assert torch.equal(a.batch.targets[place].boxes, b.batch.targets[place].boxes)
    assert sorted(damaged.dataset.bad) == [3, 7]
    assert "truncated" in damaged.dataset.bad[3].what
    assert not whole.dataset.bad


@pytest.mark.parametrize("more", [{"workers": 2}, {"ahead": 2}])
def test_the_same_stands_in_whoever_finds_it(more: dict) -> None:
    plain, other = make(broken()), make(broken(), **more)
    for epoch in range(2):
        for a, b in zip(plain.epoch(epoch), other.epoch(epoch), strict=True):
            assert a.names == b.names
            assert torch.equal(a.batch.images, b.batch.images)
    assert sorted(other.dataset.bad) == [3, 7]  # the process that counts knows what its workers have found
    resumed = make(broken(), **more)
    assert [item.names for item in resumed.epoch(1, start=2)] == [item.names for item in make(broken()).epoch(1, start=2)]
    for loader in (other, resumed):
        loader.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_strict_names_the_first_one(workers: int) -> None:
    loader = make(broken(), unreadable="raise", workers=workers)
    with pytest.raises(InputError, match=r"^the picture is truncated or damaged") as stop:
        list(loader.epoch(0))
    assert "00003.png" in str(stop.value) or "00007.png" in str(stop.value)
    assert len(str(stop.value).splitlines()) <= 3
    loader.close()


def test_in_validation_they_are_left_out() -> None:
    loader = make(broken(), unreadable="drop", shuffle=False, augment=None)
    items = list(loader.epoch(0))
    assert [index for item in items for index in item.indices] == [i for i in range(12) if i not in (3, 7)]
    alone = make(broken(bad=(0, 1, 2, 3)), unreadable="drop", shuffle=False)
    assert [item.indices for item in alone.epoch(0)] == [[4, 5, 6, 7], [8, 9, 10, 11]]  # no empty batch


def test_nothing_readable_is_an_error() -> None:
    with pytest.raises(InputError, match=r"nor could 1\d others be read"):
        list(make(broken(bad=tuple(range(12)))).epoch(0))


def test_an_unreadable_picture_is_no_missing_one(tmp_path: Path) -> None:
    path = synth.write_shapes(tmp_path / "in", 4, 32)
    (tmp_path / "set").mkdir()
    from cvtool.data.formats import coco, yolo

    yolo.write(coco.read(path), tmp_path / "set", copy_images=True)
    victim = next((tmp_path / "set" / "images").rglob("*00002.png"))
    victim.write_bytes(b"")
    where = {"data": str(tmp_path / "set"), "split_val": "none"}
    records, _, _ = source.read(where)
    assert [r.failed for r in records] == [False, False, True, False]
    with pytest.raises(InputError, match="1 of 4 pictures cannot be read") as stop:
        source.read(where | {"strict": True})
    assert "00002" in str(stop.value)


def test_they_are_told_of_once(tmp_path: Path) -> None:
    loader = make(broken(bad=(0, 1, 2, 3, 4, 5, 6)))
    assert not loader.news()
    list(loader.epoch(0))
    lines = loader.news()
    assert len(lines) == 6
    assert all("cannot be used, and another picture stands in for it: the picture is truncated" in line for line in lines[:5])
    assert lines[5] == "warning: so it is with 2 more pictures (--strict stops at the first)"
    list(loader.epoch(1))
    assert not loader.news()
    assert loader.skipped == 7


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Twelve pictures of shapes on disk; one to learn from and, by the split of seed 0, one to validate on are damaged."""
    path = synth.write_shapes(tmp_path / "in", 12, 64)
    where = {"data": str(path), "split": "75,25", "seed": 0}
    train, val, _ = source.read(where)
    for record in (train[2], val[1]):
        Path(record["file_name"]).write_bytes(Path(record["file_name"]).read_bytes()[:300])
    return path


def test_a_run_goes_on_without_them_and_says_so(cells: Path, tmp_path: Path) -> None:
    import json

    from cvtool.tasks import train as task
    from cvtool.train.log import Reporter

    notes: list[str] = []

    class Listener(Reporter):
        def note(self, text: str) -> None:
            notes.append(text)

    settings = {"epochs": 2, "batch_size": 4, "augment": "flip", "seed": 0}
    run = task.train("faster-rcnn.tiny", cells, split="75,25", layers=[settings], output=tmp_path / "runs", device="cpu", reporter=Listener())
    epochs = [line for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if line["kind"] == "epoch"]
    assert [line["skipped_images"] for line in epochs] == [1, 1]
    assert sum("cannot be used" in note for note in notes) == 1
    assert "1 of 9 pictures to learn from could not be read (--strict stops at the first)" in notes
    assert "1 of 3 pictures to validate on could not be read (--strict stops at the first)" in notes
    recipe = (run / "recipe.toml").read_text()
    assert 'split = "75,25"' in recipe
    with pytest.raises(InputError, match="truncated"):
        task.train("faster-rcnn.tiny", cells, split="75,25", layers=[settings | {"strict": True}], output=tmp_path / "runs", device="cpu")
