"""`cvtool embed`: vectors of any layer, in every kind of file, with what made them; going on with a table; what has no meaning is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.categories import numbered
from cvtool.cli import command
from cvtool.data import formats
from cvtool.data.formats import csv, npy, npz, safetensors
from cvtool.errors import CvtoolError, InputError, MissingDependency, UsageError
from cvtool.records import Record
from cvtool.tasks import embed as task
from cvtool.tasks.embedding.table import Table


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """`run("photos", "-m", ...)`: the lines of stdout as JSON, in this process, in the test's folder."""
    monkeypatch.chdir(tmp_path)

    def go(*words):
        command("embed").main([str(word) for word in words], standalone_mode=False)
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return go


@pytest.fixture
def photos(tmp_path, png):
    """Three pictures, two of one name in folders of their own."""
    for number, name in enumerate(("photos/a.png", "photos/b.png", "photos/more/a.png")):
        png(name, 40, 40, seed=number)
    return tmp_path / "photos"


@pytest.fixture
def net(tmp_path):
    """A small network with random weights."""
    torch.manual_seed(0)
    model = weights.build("resnet.tiny", categories=numbered(4)).eval()
    return weights.save(model, tmp_path / "net.safetensors", weights.Info(reference="resnet.tiny", categories=numbered(4))), model


def hooked(model, layer, paths):
    """What a forward hook on the layer sees for pictures as the model prepares them."""
    seen = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, given, out: seen.append(out.clone()))
    with torch.inference_mode():
        model(model.prepare([np.asarray(Image.open(path).convert("RGB")) for path in paths]).images)
    handle.remove()
    return seen[-1].numpy()


def test_a_cpu_is_shown_eight_pictures_of_one_size_at_a_time_and_says_the_same(run, png, net, monkeypatch):
    """Of any other size one at a time; and a vector does not depend on how many there are."""
    path, model = net
    sizes = []
    prepare = type(model.prepare).__call__
    monkeypatch.setattr(
        type(model.prepare), "__call__", lambda self, pictures, *more, **named: sizes.append(len(pictures)) or prepare(self, pictures)
    )
    for number in range(11):
        png(f"many/{number:02}.png", 30 + number, 40, seed=number)
    whole = run("many", "-m", path, "--device", "cpu")
    assert sizes == [8, 3]
    sizes.clear()
    alone = run("many", "-m", path, "--device", "cpu", "-b", 1)
    assert sizes == [1] * 11
    assert [record["embedding"] for record in whole] == [record["embedding"] for record in alone]
    sizes.clear()
    run("many", "-m", "unet.tiny@none", "--layer", "backbone.stem", "--device", "cpu")
    assert set(sizes) == {1}


@pytest.mark.system("cnn-features")
def test_a_layer_is_what_a_forward_hook_sees(run, photos, net, tmp_path):
    path, model = net
    names = [photos / "a.png", photos / "b.png", photos / "more" / "a.png"]
    run("photos", "-m", path, "--layer", "avgpool", "-o", "pooled.npy", "-b", 3)
    pooled = np.load("pooled.npy")
    assert pooled.shape == (3, 32)
    assert pooled == pytest.approx(hooked(model, "net.avgpool", names).reshape(3, -1), abs=1e-6)
    run("photos", "-m", path, "--layer", "layer2", "-o", "mean.npy")
    maps = hooked(model, "net.layer2", names)
    assert np.load("mean.npy") == pytest.approx(maps.mean((2, 3)), abs=1e-5)
    run("photos", "-m", path, "--layer", "net.layer2", "--tokens", "-o", "places.npy")
    assert np.load("places.npy") == pytest.approx(maps.reshape(3, 16, -1).transpose(0, 2, 1), abs=1e-5)
    run("photos", "-m", path, "--tokens", "-o", "last.npy")  # the last map of all
    last = hooked(model, "net.layer3", names)
    assert np.load("last.npy") == pytest.approx(last.reshape(3, 32, -1).transpose(0, 2, 1), abs=1e-5)
    for words, said in (
        (["--layer", "layr3"], "layer3"),
        (["--layer", "fc", "--tokens"], "no positions"),
        (["--layer", "conv2"], "could be"),
    ):
        with pytest.raises(UsageError, match=said):
            run("photos", "-m", path, *words, "-o", "x.npy")


def test_any_model_has_layers(run, photos):
    torch.manual_seed(0)
    for name, layer in (("faster-rcnn.tiny@none", "backbone"), ("unet.tiny@none", "backbone")):
        assert len(run("photos/more", "-m", name, "--layer", layer)[0]["embedding"]) > 3
    (row,) = run("photos/more", "-m", "timm:resnet10t@none", "--layer", "layer1", "--img-size", 64)
    assert len(row["embedding"]) == 64
    with pytest.raises(UsageError, match="no model for embed"):
        run("photos", "-m", "faster-rcnn.tiny@none")


@pytest.mark.system("cnn-features")
def test_resnet50_gives_2048_numbers_a_picture(run, photos):
    torch.manual_seed(0)
    run("photos/more", "-m", "resnet50@none", "--layer", "avgpool", "--img-size", 32, "-o", "f.npy")
    assert np.load("f.npy").shape == (1, 2048)
    facts = Table.read(photos.parent / "f.npy").manifest
    assert (facts["model"], facts["layer"], facts["dims"], facts["count"]) == ("resnet.50@none", "avgpool", 2048, 1)


@pytest.mark.parametrize("suffix", ["npz", "npy", "safetensors", "parquet", "csv", "jsonl"])
def test_every_file_says_the_same(run, photos, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    name = f"t.{suffix}"
    run("photos", "-m", "handcrafted.tiny", "--normalize", "-o", name)
    lines = run("photos", "-m", "handcrafted.tiny", "--normalize")
    table = Table.read(photos.parent / name)
    assert np.array_equal(table.vectors, np.array([line["embedding"] for line in lines], np.float32))
    assert np.linalg.norm(table.vectors, axis=1) == pytest.approx(1, abs=1e-6)
    assert [record["file_name"] for record in table.records] == ["photos/a.png", "photos/b.png", "photos/more/a.png"]
    made = lines[0]["made_by"][-1]
    assert {key: table.manifest[key] for key in ("model", "normalized", "dims", "count", "prepare")} == {
        "model": made["model"], "normalized": True, "dims": 192, "count": 3, "prepare": made["prepare"],
    }  # fmt: skip
    if suffix != "csv":  # which has no room for the rest
        assert [dict(record) for record in table.records] == [{k: v for k, v in line.items() if k != "embedding"} for line in lines]
    back = list(formats.get(suffix).read(photos.parent / name))
    assert np.float32(back[1]["embedding"]).tolist() == np.float32(lines[1]["embedding"]).tolist()
    assert not [path for path in photos.parent.iterdir() if "tmp" in path.name or "part" in path.name]


def test_a_missing_package_is_named(run, photos, monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *rest):
        if name.startswith(("pyarrow", "faiss")):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match="parquet"):
        run("photos", "-m", "handcrafted.tiny", "-o", "t.parquet")
    run("photos", "-m", "handcrafted.tiny", "-o", "t.npz")
    with pytest.raises(MissingDependency, match="ann"):
        run("photos", "--search", "t.npz", "--ann")


@pytest.mark.parametrize("suffix", ["npy", "jsonl"])
def test_resume_goes_by_what_pictures_hold(run, photos, png, monkeypatch, suffix):
    name = f"t.{suffix}"
    run("photos", "-m", "handcrafted.tiny", "-o", name)
    before = {record["file_name"]: record["embedding"] for record in formats.get(suffix).read(photos.parent / name)}
    png("photos/b.png", 40, 40, seed=9)  # changed
    shutil.copy(photos / "a.png", photos / "c.png")  # a copy
    png("photos/d.png", 40, 40, seed=4)  # new
    shown = []
    real = task._hashed
    monkeypatch.setattr(task, "_hashed", lambda records: (shown.append(record["file_name"]) or record for record in real(records)))
    run("photos", "-m", "handcrafted.tiny", "-o", name, "--resume")
    assert shown == ["photos/b.png", "photos/d.png"]
    after = {record["file_name"]: record for record in formats.get(suffix).read(photos.parent / name)}
    assert len(after) == 5
    assert after["photos/a.png"]["embedding"] == after["photos/c.png"]["embedding"] == before["photos/a.png"]
    assert after["photos/b.png"]["embedding"] != before["photos/b.png"]
    assert after["photos/more/a.png"]["embedding"] == before["photos/more/a.png"]  # of the same name as another, in a folder of its own
    png("photos/e.png", 40, 40, seed=5)
    with pytest.raises(InputError, match=r"handcrafted\.tiny.*handcrafted\.histograms"):
        run("photos", "-m", "handcrafted", "-o", name, "--resume")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cluster", "x.npz", "-k", "2"], "no such table"),
        (["a.png", "-m", "handcrafted", "-k", "3"], "--cluster"),
        (["a.png", "-m", "faster-rcnn", "-f", "jsonl"], "no model for embed"),
        (["a.png", "--search", "x.npz", "--binary"], "no effect"),
        (["a.png", "--search", "x.npz", "--cluster", "y.npz"], "exclude"),
        (["a.png", "-m", "handcrafted", "-f", "npz"], "not a stream"),
        (["a.png", "-m", "handcrafted", "--binary", "--normalize"], "no effect"),
        (["a.png", "-m", "handcrafted", "--layer", "fc"], "no layer 'fc'"),
        (["a.png", "-m", "handcrafted", "--threshold", "0.3"], "--dedupe"),
        (["search", "a.png"], "--index"),
        (["gallery", "drop"], "add, remove or list"),
        (["gallery", "list"], "--gallery"),
        (["verify", "a.png", "-m", "handcrafted"], "two pictures"),
        (["verify", "a.png", "a.png", "-m", "handcrafted"], "--threshold"),
        (["match", "a.png", "-m", "handcrafted"], "two pictures"),
        (["match", "a.png", "a.png", "-m", "handcrafted"], "no features of single positions"),
        (["match3d", "a.png"], "two point clouds"),
        (["match3d", "a.png", "a.png"], "no .ply"),
    ],
)
def test_what_has_no_meaning_is_refused(run, png, words, said):
    png("a.png", 40, 40)
    with pytest.raises(CvtoolError) as error:
        run(*words)
    assert said in str(error.value)
    assert len(error.value.lines()) <= 3


def records(vectors):
    return [Record(file_name=f"{i}.png", embedding=list(map(float, vector))) for i, vector in enumerate(vectors)]


def test_a_table_of_ten_million_rows_would_be_mapped(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    before = records(vectors)
    before[7]["page"] = 2
    assert npy.write(iter([*before, Record(file_name="none.png")]), tmp_path / "t.npy") == ["1 record without an embedding left out"]
    table = Table.read(tmp_path / "t.npy")
    assert isinstance(table.vectors, np.memmap)
    assert np.array_equal(table.vectors, vectors)
    assert dict(table.records[7]) == {"file_name": "7.png", "page": 2}
    assert table.records[-1]["file_name"] == "39.png"
    assert len(table.records[3:5]) == 2
    np.save(tmp_path / "half.npy", vectors.astype(np.float16))  # of another program, without names
    half = Table.read(tmp_path / "half.npy")
    assert half.vectors.dtype == np.float16
    rows, _ = half.nearest(vectors[:2], 1)
    assert rows.tolist() == [[0], [1]]
    assert half.records[3]["file_name"].endswith("half.npy:3")
    (tmp_path / "t.npy.jsonl").write_text('{"manifest": {}}\n')
    with pytest.raises(InputError, match="40 vectors"):
        Table.read(tmp_path / "t.npy")


def test_a_table_comes_back_from_its_file(tmp_path):
    before = records(np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32))
    before[1]["page"] = 2
    assert npz.write([*before, Record(file_name="none.png")], tmp_path / "t.npz") == ["1 record without an embedding left out"]
    assert list(npz.read(tmp_path / "t.npz")) == before
    for module, suffix in ((npz, "npz"), (npy, "npy"), (safetensors, "safetensors")):
        (tmp_path / f"bad.{suffix}").write_bytes(b"no archive")
        with pytest.raises(InputError, match="no table"):
            list(module.read(tmp_path / f"bad.{suffix}"))
        with pytest.raises(InputError, match="lengths"):
            module.write([*before, Record(file_name="x", embedding=[1.0])], tmp_path / f"u.{suffix}")
        with pytest.raises(InputError, match="none"):
            module.write([Record(file_name="x", embedding=[float("nan"), 1.0])], tmp_path / f"u.{suffix}")
    csv.write(iter(before), tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text() + "x.png,,1,2\n")
    with pytest.raises(InputError, match="line 5"):
        list(csv.read(tmp_path / "t.csv"))
