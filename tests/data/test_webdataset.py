"""Tar shards: read where they lie, written the same for the same, and every damage named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvtool import archives, images
from cvtool.data import formats, inputs, source, synth
from cvtool.data.dataset import Dataset
from cvtool.data.formats import folder, webdataset
from cvtool.errors import InputError, UsageError
from cvtool.records import Record


def drawn(seed: int = 0, side: int = 8) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def shard(path: Path, members: dict[str, bytes], *, kind: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as archive:
        for name, content in members.items():
            archives.add(archive, name, content)
    return path


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_sees(tmp_path: Path, kind: int) -> None:
    names = ["a.txt", "./b/ä.txt", "c" * 90 + "/" + "d" * 90 + ".txt", *(["e" * 300 + ".txt"] if kind != tarfile.USTAR_FORMAT else [])]
    path = shard(tmp_path / "x.tar", {name: name.encode() * (i + 200) for i, name in enumerate(names)}, kind=kind)
    with tarfile.open(path, "a", format=kind) as archive:
        archive.addfile(tarfile.TarInfo("empty"))
        inner = tarfile.TarInfo("folder")
        inner.type = tarfile.DIRTYPE
        archive.addfile(inner)
    with tarfile.open(path) as archive:
        theirs = [(m.name.removeprefix("./"), m.offset_data, m.size) for m in archive if m.isfile()]
        contents = [archive.extractfile(m).read() for m in archive if m.isfile()]  # type: ignore[union-attr]
    found = [(tuple(member), content()) for member, content in archives.members(path)]
    assert [member for member, _ in found] == theirs
    assert [content for _, content in found] == contents


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:700]), "cut off in 'k.png'"),
        (lambda path: path.write_bytes(b"x" * 1024), "not a tar archive"),
        (lambda path: path.write_bytes(b"\x1f\x8b" + b"x" * 1024), "gunzip it first"),
        (lambda path: path.write_bytes(path.read_bytes()[:1024] + b"\1" * 512), "not a tar archive after 'k.png'"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: shard(path, {"../k.png": drawn()}), "leads out of the archive"),
        (lambda path: shard(path, {"/k.png": drawn()}), "leads out of the archive"),
        (lambda path: link(path), "a link or a device"),
        (lambda path: shard(path, {"k.png": drawn(), "k.jpg": drawn()}), "two pictures of one key"),
        (lambda path: shard(path, {"k.png": drawn(), "l.png": drawn(), "k.jpg": drawn()}), "second picture of its key"),
        (lambda path: shard(path, {"k.png": drawn(), "k.json": b"{"}), r"x\.tar: k\.json"),
        (lambda path: shard(path, {"k.png": drawn(), "k.json": b'{"annotations": [{"bbox": [1]}]}'}), "not four finite numbers"),
        (lambda path: shard(path, {"k.png": drawn(), "k.cls": b"\n"}), "a class is a number or a name"),
        (
            lambda path: shard(path, {"k.png": drawn(), "k.cls": b"3", "l.png": drawn(), "l.cls": b"cat"}),
            "'cat' is a name, and other classes are numbers",
        ),
    ],
)
def test_damage_is_named(tmp_path: Path, change, said: str) -> None:
    path = shard(tmp_path / "x.tar", {"k.png": drawn(), "k.cls": b"1"})
    change(path)
    with pytest.raises(InputError, match=said) as stop:
        list(webdataset.read(path))
    assert "x.tar" in str(stop.value)


def link(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("k.png")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)


def test_labels_of_every_kind(tmp_path: Path) -> None:
    numbers = shard(tmp_path / "n.tar", {"a.png": drawn(1), "a.cls": b"3\n", "b.png": drawn(2), "b.cls": b"12", "README": b"words"})
    assert [r["labels"][0]["category_id"] for r in webdataset.read(numbers)] == [3, 12]
    assert webdataset.categories(numbers) == [{"id": 3, "name": "class3"}, {"id": 12, "name": "class12"}]
    names = shard(
        tmp_path / "w.tar",
        {"x/a.png": drawn(), "x/a.cls": b"dog", "x/b.png": drawn(), "x/b.txt": b"cat", "c.png": drawn(), "c.json": b'{"label": "dog"}'},
    )
    assert [(r["labels"][0]["category"], r["labels"][0]["category_id"]) for r in webdataset.read(names)] == [("dog", 2), ("cat", 1), ("dog", 2)]
    caption = shard(tmp_path / "c.tar", {"a.png": drawn(), "a.txt": b"a long story\nof two lines", "b.png": drawn()})
    assert all("labels" not in r for r in webdataset.read(caption))
    boxes = {"annotations": [{"bbox": [1, 2, 3, 4], "category_id": 7, "category": "ant"}], "width": 8, "height": 8}
    found = list(webdataset.read(shard(tmp_path / "b.tar", {"a.png": drawn(), "a.json": json.dumps(boxes).encode()})))
    assert found[0]["annotations"] == boxes["annotations"]
    assert webdataset.categories(tmp_path / "b.tar") == [{"id": 7, "name": "ant"}]


def test_classes_txt_names_the_numbers_and_bounds_them(tmp_path: Path) -> None:
    path = shard(tmp_path / "set" / "a-0.tar", {"a.png": drawn(), "a.cls": b"1", "b.png": drawn(), "b.cls": b"0"})
    (tmp_path / "set" / "classes.txt").write_text("0 cat\n1 big dog\n2 cow\n")
    assert [r["labels"][0]["category"] for r in webdataset.read(tmp_path / "set")] == ["big dog", "cat"]
    assert [c["name"] for c in webdataset.categories(path)] == ["cat", "big dog", "cow"]
    shard(path, {"a.png": drawn(), "a.cls": b"3"})
    with pytest.raises(InputError, match=r"class 3 is none of the 3 in classes\.txt") as stop:
        list(webdataset.read(tmp_path / "set"))
    assert "a.cls" in str(stop.value)
    shard(path, {"a.png": drawn(), "a.cls": b"horse"})
    with pytest.raises(InputError, match=r"class 'horse' is not in classes\.txt"):
        list(webdataset.read(tmp_path / "set"))


def test_parts_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("train-000000", "train-000001", "val-000000"):
        shard(tmp_path / "set" / f"{name}.tar", {f"{name}.png": drawn(), f"{name}.cls": b"1"})
    assert formats.recognise(tmp_path / "set") == "webdataset"
    assert webdataset.splits(tmp_path / "set") == ["train", "val"]
    assert [r["split"] for r in webdataset.read(tmp_path / "set")] == ["train", "train", "val"]
    assert len(list(webdataset.read(tmp_path / "set", split="train"))) == 2
    pattern = tmp_path / "set" / "train-{000000..000001}.tar"
    assert formats.recognise(pattern) == "webdataset"
    assert len(list(webdataset.read(pattern))) == 2
    with pytest.raises(InputError, match="no such shard") as stop:
        list(webdataset.read(tmp_path / "set" / "train-{000000..000002}.tar"))
    assert "train-000002.tar" in str(stop.value)
    with pytest.raises(InputError, match="runs backwards"):
        list(webdataset.read(tmp_path / "set" / "train-{000002..000000}.tar"))
    for part in ("train", "test"):
        shard(tmp_path / "deep" / part / "0.tar", {"a.png": drawn(), "a.cls": b"1"})
    assert webdataset.splits(tmp_path / "deep") == ["train", "test"]
    shard(tmp_path / "plain" / "shard-0.tar", {"a.png": drawn()})
    shard(tmp_path / "plain" / "shard-1.tar", {"b.png": drawn()})
    assert webdataset.splits(tmp_path / "plain") == []


def test_pictures_are_read_when_they_are_looked_at(tmp_path: Path, monkeypatch) -> None:
    path = shard(tmp_path / "x.tar", {f"{i}.png": drawn(i) for i in range(3)})
    records = list(webdataset.read(path))
    assert [r["file_name"] for r in records] == [f"{path}/{i}.png" for i in range(3)]
    assert all(np.array_equal(r.pixels(), images.decode(drawn(i))) for i, r in enumerate(records))
    assert records[1].changed(split="x").data == drawn(1)
    assert [r.size() for r in inputs.read([path])] == [(8, 8)] * 3  # as an input of any verb
    assert [r["file_name"] for r in inputs.read([tmp_path])] == [r["file_name"] for r in records]
    plain = Record(file_name=records[1]["file_name"])  # and by its name alone
    assert plain.present()
    assert np.array_equal(plain.pixels(), images.decode(drawn(1)))
    assert not Record(file_name=f"{path}/9.png").present()
    with pytest.raises(InputError, match="no such file"):
        Record(file_name=f"{path}/9.png").pixels()
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(InputError, match="shorter since it was indexed"):
        records[2].pixels()
    assert all(r.present() for r in records)


def test_what_is_written_reads_back_and_is_the_same_each_time(tmp_path: Path) -> None:
    records = [r.changed(split=part) for part, seed in (("train", 0), ("val", 1)) for r in synth.shapes(4, 32, seed=seed)]
    assert not webdataset.write(records, tmp_path / "one")
    webdataset.write([r.changed() for r in records], tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["classes.txt", "train-000000.tar", "val-000000.tar"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    back = list(webdataset.read(tmp_path / "one"))
    assert [r["annotations"] for r in back] == [r["annotations"] for r in records]
    assert [r.data for r in back] == [r.data for r in records]
    assert webdataset.categories(tmp_path / "one") == synth.CATEGORIES
    train, val, categories = source.read({"data": str(tmp_path / "one")})
    assert (len(train), len(val)) == (4, 4)
    dataset, plain = (Dataset(some, categories, needs=("boxes", "masks")) for some in (train, records[:4]))
    assert all(np.array_equal(dataset[i].pixels, plain[i].pixels) for i in range(4))


def test_class_folders_become_shards_and_come_back(tmp_path: Path, png) -> None:
    for name in ("cat", "dog"):
        for i in range(3):
            png(f"in/{name}/{i}.v2.png", 8, 8, seed=i)
    webdataset.write(folder.read(tmp_path / "in"), tmp_path / "shards")
    assert {member.name.rpartition(".")[2] for member, _ in archives.members(tmp_path / "shards" / "shard-000000.tar")} == {"png", "cls"}
    back = list(webdataset.read(tmp_path / "shards"))
    assert [r["labels"][0]["category"] for r in back] == ["cat"] * 3 + ["dog"] * 3
    assert len({r["file_name"] for r in back}) == 6


def test_a_new_shard_begins_when_one_is_full(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(webdataset, "SHARD", 3)
    webdataset.write(synth.shapes(7, 32), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == [f"shard-00000{i}.tar" for i in range(3)]
    assert len(list(webdataset.read(tmp_path / "out"))) == 7
    notes = webdataset.write([Record(file_name="none.png"), Record(file_name="a.tif", page=1)], tmp_path / "lost")
    assert notes == ["1 picture cannot be read: left out", "1 page of files with several left out"]


def test_shards_beside_class_folders_are_two_data_sets(tmp_path: Path, png) -> None:
    shard(tmp_path / "x.tar", {"a.png": drawn()})
    for name in ("cat", "dog"):
        png(f"{name}/0.png", 8, 8)
    with pytest.raises(UsageError, match="webdataset and folder"):
        formats.recognise(tmp_path)


def test_a_record_whose_picture_lies_elsewhere_now_forgets_the_archive(tmp_path):
    from cvtool.data.formats.webdataset import Stored

    (tmp_path / "a.tar").write_bytes(b"0123456789")
    record = Stored(file_name="nowhere.png")
    record.place = (str(tmp_path / "a.tar"), 2, 3)
    assert record.data == b"234"
    assert record.present()
    record.data = None  # as `visualize -o` does with what it has drawn
    assert record.data is None
    assert not record.present()
