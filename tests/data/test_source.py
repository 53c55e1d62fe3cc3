"""Which part of a data set is learned from and which is validated on."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvtool.data import source, synth
from cvtool.errors import InputError, UsageError


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A VOC folder with the parts train, trainval, val and test of 2, 3, 1 and 1 pictures."""
    from PIL import Image

    root = tmp_path / "voc"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for i in range(4):
        Image.new("RGB", (30, 20), (i * 40, 0, 0)).save(root / "JPEGImages" / f"p{i}.jpg")
        thing = "<object><name>{}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>10</ymax></bndbox></object>".format("ab"[i % 2])
        xml = f"<annotation><filename>p{i}.jpg</filename><size><width>30</width><height>20</height><depth>3</depth></size>{thing}</annotation>"
        (root / "Annotations" / f"p{i}.xml").write_text(xml)
    for name, numbers in (("train", (0, 1)), ("val", (2,)), ("trainval", (0, 1, 2)), ("test", (3,))):
        (root / "ImageSets/Main" / f"{name}.txt").write_text("".join(f"p{i}\n" for i in numbers))
    return root


def test_parts(voc: Path) -> None:
    train, val, categories = source.read({"data": str(voc)})
    assert (len(train), len(val)) == (2, 1)
    assert [c["name"] for c in categories] == ["a", "b"]
    assert [len(part) for part in source.read({"data": str(voc), "split": "trainval", "split_val": "test"})[:2]] == [3, 1]
    assert [len(part) for part in source.read({"data": str(voc), "split": "trainval", "split_val": "none"})[:2]] == [3, 0]
    assert [len(part) for part in source.read({"data": str(voc), "split": "val"})[:2]] == [1, 0]
    with pytest.raises(UsageError, match="no such part") as error:
        source.read({"data": str(voc), "split": "trian"})
    assert "train" in str(error.value)


def test_another_data_set_to_validate_on(tmp_path: Path, voc: Path) -> None:
    one, two = synth.write_shapes(tmp_path / "one", 3, 40), synth.write_shapes(tmp_path / "two", 2, 40, seed=1)
    train, val, _ = source.read({"data": str(one), "data_val": str(two)})
    assert (len(train), len(val)) == (3, 2)
    with pytest.raises(UsageError, match="contradict"):
        source.read({"data": str(one), "data_val": str(two), "split_val": "none"})
    with pytest.raises(UsageError, match="no such part"):
        source.read({"data": str(one), "split": "train"})
    train, val, _ = source.read({"data": str(one), "data_val": str(voc)})
    assert len(val) == 1


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        source.read({"data": str(tmp_path / "none")})
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}')
    with pytest.raises(InputError, match="no pictures"):
        source.read({"data": str(tmp_path / "a.json")})


def test_choose() -> None:
    path = Path("x")
    assert source.choose(None, [], source.TRAIN, path, "--split") is None
    assert source.choose(None, ["test", "trainval"], source.TRAIN, path, "--split") == "trainval"
    with pytest.raises(UsageError, match="which part"):
        source.choose(None, ["a", "b"], source.TRAIN, path, "--split")


def test_bccd(data: Path) -> None:
    train, val, categories = source.read({"data": str(data / "bccd"), "split": "trainval", "split_val": "test"})
    assert (len(train), len(val), len(categories)) == (292, 72, 3)
