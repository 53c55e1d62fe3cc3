"""Divided by a seed: disjoint, complete, every class in its share; and folds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from cvtool import weights
from cvtool.data import formats, source, split, synth
from cvtool.errors import InputError, UsageError
from cvtool.records import Record


def pictures(counts: list[int]) -> list[Record]:
    """`counts[k]` pictures of class k."""
    return [Record(file_name=f"{k}/{i}.png", labels=[{"category_id": k, "category": f"c{k}"}]) for k, n in enumerate(counts) for i in range(n)]


def of(part: list[Record]) -> Counter[int]:
    return Counter(record["labels"][0]["category_id"] for record in part)


def test_fractions() -> None:
    assert split.fractions("80,10,10") == (0.8, 0.1, 0.1)
    assert split.fractions("0.7, 0.3") == (0.7, 0.3)
    assert split.fractions("train") is split.fractions(None) is split.fractions("80") is None
    for wrong in ("80,10,20", "80,x", "100,0", "120,-20", "80,10,5,5", "nan,1", "80,"):
        with pytest.raises(UsageError, match="add up to"):
            split.fractions(wrong)
    assert split.fold("2/5") == (1, 5)
    for wrong in ("0/5", "6/5", "1/1", "1", "a/b"):
        with pytest.raises(UsageError, match="--fold takes I/K"):
            split.fold(wrong)


@given(
    some.lists(some.integers(1, 40), min_size=2, max_size=8), some.integers(0, 9), some.sampled_from([(0.8, 0.1, 0.1), (0.7, 0.3), (0.5, 0.25, 0.25)])
)
def test_every_class_is_in_each_part_by_its_share(counts: list[int], seed: int, shares: tuple[float, ...]) -> None:
    records = pictures(counts)
    try:
        parts = split.divided(records, shares, seed)
    except InputError:  # too few
        assert sum(counts) < 40 or max(counts) < 10
        return
    assert sorted(id(r) for part in parts for r in part) == sorted(map(id, records))  # disjoint, and nothing is lost
    for k, n in enumerate(counts):
        assert of(parts[0])[k] > 0  # nothing is validated on that was never learned
        for part, share in zip(parts, shares, strict=True):
            assert abs(of(part)[k] - share * n) < 1 or of(parts[0])[k] == 1
    if min(counts) > 4:
        assert all(abs(len(part) - share * len(records)) < 1 for part, share in zip(parts, shares, strict=True))


def test_the_seed_decides_and_the_order_of_the_files_does_not() -> None:
    records = pictures([30, 20])
    names = [[r["file_name"] for r in part] for part in split.divided(records, (0.8, 0.2), 3)]
    again = [sorted(r["file_name"] for r in part) for part in split.divided(records[::-1], (0.8, 0.2), 3)]
    assert [sorted(part) for part in names] == again
    assert names[0] == [r["file_name"] for r in records if r["file_name"] in set(names[0])]  # each part in the data set's order
    assert set(names[1]) != {r["file_name"] for r in split.divided(records, (0.8, 0.2), 4)[1]}


def test_a_picture_that_is_listed_twice_stays_whole() -> None:
    records = pictures([20, 20])
    double = [record.changed() for record in records]
    parts = split.divided(records + double, (0.5, 0.5), 0)
    names = [{r["file_name"] for r in part} for part in parts]
    assert not names[0] & names[1]
    assert len(parts[0]) == len(parts[1]) == 40


def test_folds_are_equal_and_disjoint() -> None:
    records = pictures([23, 10, 7])
    folds = split.folds(records, 5, 1)
    assert sorted(id(r) for fold in folds for r in fold) == sorted(map(id, records))
    assert [len(fold) for fold in folds] == [8] * 5
    for k, n in enumerate((23, 10, 7)):
        assert all(n // 5 <= of(fold)[k] <= -(-n // 5) for fold in folds)
    with pytest.raises(InputError, match="too few"):
        split.folds(pictures([2, 1]), 5, 0)


def test_objects_of_many_categories_are_spread_the_rarest_first() -> None:
    records = [Record(file_name=f"{i}.png", annotations=[{"category_id": k} for k in kinds])
               for i, kinds in enumerate([(1,)] * 60 + [(1, 2)] * 20 + [(1, 2, 3)] * 10 + [()] * 10)]  # fmt: skip
    parts = split.divided(records, (0.8, 0.1, 0.1), 5)
    assert [len(part) for part in parts] == [80, 10, 10]
    for category, count in ((1, 90), (2, 30), (3, 10)):
        have = [sum(any(a["category_id"] == category for a in r["annotations"]) for r in part) for part in parts]
        assert have == [0.8 * count, 0.1 * count, 0.1 * count]
    assert [sum(not r["annotations"] for r in part) for part in parts] == [8, 1, 1]


# --- as training reads it --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def flowers(tmp_path: Path, png) -> Path:
    """Class folders of 20, 10 and 10 pictures."""
    for name, count in (("aster", 20), ("daisy", 10), ("rose", 10)):
        for i in range(count):
            png(f"flowers/{name}/{i}.png", 8, 8, seed=i)
    return tmp_path / "flowers"


@pytest.mark.system("data-split")
def test_a_data_set_without_parts_is_divided(flowers: Path, tmp_path: Path) -> None:
    """`--split 80,10,10`: seeded, disjoint, stratified; the same again; the test part is in neither."""
    where = {"data": str(flowers), "split": "80,10,10", "seed": 7}
    train, val, categories = source.read(where)
    parts, _ = source.divided(where)
    assert [c["name"] for c in categories] == ["aster", "daisy", "rose"]
    assert of(train) == {1: 16, 2: 8, 3: 8}
    assert of(val) == of(parts["test"]) == {1: 2, 2: 1, 3: 1}
    names = [{record["file_name"] for record in part} for part in (train, val, parts["test"])]
    assert len(set.union(*names)) == 40
    assert [{r["file_name"] for r in part} for part in source.read(where)[:2]] == names[:2]
    assert {r["file_name"] for r in source.read(where | {"seed": 8})[1]} != names[1]
    moved = flowers.rename(tmp_path / "elsewhere")
    assert {Path(r["file_name"]).relative_to(moved) for r in source.read(where | {"data": str(moved)})[1]} == {
        Path(n).relative_to(flowers) for n in names[1]
    }


def test_folds_of_a_data_set(flowers: Path) -> None:
    held: set[str] = set()
    for number in range(1, 6):
        train, val, _ = source.read({"data": str(flowers), "fold": f"{number}/5"})
        assert of(val) == {1: 4, 2: 2, 3: 2}
        names = {record["file_name"] for record in val}
        assert not names & ({record["file_name"] for record in train} | held)
        held |= names
    assert len(held) == 40


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"data_val": "x"}, "--split 80,20 and --data-val contradict"),
        ({"split_val": "val"}, "--split 80,20 and --split-val contradict"),
        ({"fold": "1/5"}, "--split 80,20 and --fold contradict"),
        ({"split": None, "fold": "1/5", "data_val": "x"}, "--fold 1/5 and --data-val contradict"),
        ({"split": None, "fold": "1/5", "split_val": "none"}, "--fold 1/5 and --split-val contradict"),
        ({"split": "80,30"}, "add up to"),
    ],
)
def test_contradictions(flowers: Path, more: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        source.read({"data": str(flowers), "split": "80,20"} | more)


def test_a_data_set_with_parts_is_not_divided_but_a_part_of_it_can_be_folded(tmp_path: Path) -> None:
    parts = (("train", 10, 0), ("val", 4, 1))
    records = [r.changed(split=part) for part, count, seed in parts for r in synth.shapes(count, 32, seed=seed)]
    formats.get("yolo").write(records, tmp_path / "set")
    with pytest.raises(UsageError, match="without parts, and this one has train, val"):
        source.read({"data": str(tmp_path / "set"), "split": "80,20"})
    with pytest.raises(UsageError, match="which part"):
        source.read({"data": str(tmp_path / "set"), "fold": "1/2"})
    train, val, _ = source.read({"data": str(tmp_path / "set"), "fold": "1/2", "split": "train"})
    assert (len(train), len(val)) == (5, 5)


@pytest.mark.parametrize("name", ["coco", "csv", "jsonl", "yolo", "voc", "webdataset"])
def test_every_format_can_be_divided(tmp_path: Path, name: str) -> None:
    from cvtool.tasks import data as task

    path = synth.write_shapes(tmp_path / "in", 10, 32)
    out = tmp_path / ("set" + (formats.get(name).SUFFIX or ""))
    task.convert(task.open_data(path), out, name)
    if name == "yolo":
        (out / "data.yaml").unlink()  # it names one part as two
    images = {"images": str(tmp_path / "in" / "images")} if name in ("coco", "csv") else {}
    train, val, _ = source.read({"data": str(out), "data_format": name, "split": "80,20", **images})
    assert (len(train), len(val)) == (8, 2)
    train, val, _ = source.read({"data": str(out), "data_format": name, "fold": "1/5", **images})
    assert (len(train), len(val)) == (8, 2)


@pytest.mark.system("data-split")
def test_the_learning_rate_is_chosen_on_the_training_part(flowers: Path, tmp_path: Path) -> None:
    """The finder's curve, of a divided data set; and a run of it that is resumed divides it in the same way."""
    from PIL import Image

    from cvtool.tasks import train as task

    settings = {"steps": 12, "batch_size": 8, "seed": 1}
    planned = task.plan("lenet.tiny", flowers, split="50,25,25", layers=[settings])
    found = task.find_lr(planned, output=tmp_path, device="cpu")
    assert list(found.rates) == sorted(found.rates)
    assert found.rates[0] <= found.steepest <= found.rates[-1]
    with Image.open(tmp_path / task.FINDER) as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20
    run = task.train("lenet.tiny", flowers, split="50,25,25", layers=[settings | {"steps": 0, "epochs": 1}], output=tmp_path / "runs", device="cpu")
    assert 'split = "50,25,25"' in (run / "recipe.toml").read_text()
    before = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    task.resume(run, settings={"epochs": 2}, device="cpu")
    after = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert after[: len(before)] == before
    assert [line["epoch"] for line in after if line["kind"] == "epoch"] == [1, 2]
    info = weights.read_info(run)
    assert info.data["split"] == "50,25,25"  # and the seed stands beside it: what was left out can be found again
    assert (info.seed, info.data["train_images"], info.data["val_images"]) == (1, 20, 10)


@pytest.mark.system("data-split")
def test_forty_faces_in_eighty_ten_and_ten(data: Path) -> None:
    parts, _ = source.divided({"data": str(data / "faces_orl"), "split": "80,10,10", "seed": 0})
    assert {name: set(of(part).values()) for name, part in parts.items()} == {"train": {8}, "val": {1}, "test": {1}}
    assert len({record["file_name"] for part in parts.values() for record in part}) == 400


def test_cells_of_several_kinds_keep_their_proportions(data: Path) -> None:
    train, val, categories = source.read({"data": str(data / "bccd"), "split": "trainval", "fold": "1/4"})
    assert (len(train), len(val)) == (219, 73)
    for category in categories:
        shares = [sum(any(a["category_id"] == category["id"] for a in r["annotations"]) for r in part) / len(part) for part in (train, val)]
        assert abs(shares[0] - shares[1]) < 0.02


def test_the_command_writes_what_training_divides(flowers: Path, tmp_path: Path, cvtool) -> None:
    done = cvtool("data", "split", flowers, "80,10,10", "--seed", "7", "-o", "parts/")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "cvtool data split: train 32, val 4, test 4 pictures written to parts/ as folder\n"
    parts, _ = source.divided({"data": str(flowers), "split": "80,10,10", "seed": 7})
    for name, part in parts.items():
        written = formats.get("folder").read(tmp_path / "parts", split=name)
        assert {Path(r["file_name"]).resolve() for r in written} == {Path(r["file_name"]).resolve() for r in part}
    assert cvtool("data", "split", flowers, "80,10,10", "-o", "parts/").returncode == 2  # it exists
    assert cvtool("data", "split", flowers, "80,30", "-o", "other/").returncode == 2
    assert cvtool("data", "split", "parts/", "80,20", "-o", "other/").returncode == 2  # it has parts
    done = cvtool("data", "split", flowers, "50,50", "--to", "csv", "-o", "tables/")
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == ["train.csv", "val.csv"]
    assert len(source.read({"data": str(tmp_path / "tables/train.csv"), "images": str(flowers)})[0]) == 20
