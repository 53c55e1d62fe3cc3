"""`cvtool data augment`: real pictures and made ones, side by side in class folders."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.cli import command
from cvtool.errors import InputError, UsageError
from cvtool.ops import latents
from cvtool.tasks import _enlarge, train
from cvtool.tasks.data import open_data

CLASSES = ("s1", "s2", "s3")


@pytest.fixture
def faces(data, tmp_path):
    """Three people, ten pictures each."""
    for name in CLASSES:
        (tmp_path / "faces").mkdir(exist_ok=True)
        (tmp_path / "faces" / name).symlink_to(data / "faces_orl" / name)
    return tmp_path / "faces"


@pytest.fixture
def squares(tmp_path):
    """Two classes of plain squares, two pictures of one and three of the other."""
    for name, count in (("dark", 2), ("light", 3)):
        for i in range(count):
            (tmp_path / "squares" / name).mkdir(parents=True, exist_ok=True)
            value = (20 if name == "dark" else 180) + 20 * i
            Image.new("RGB", (20, 20), (value, value, value)).save(tmp_path / "squares" / name / f"{i}.png")
    return tmp_path / "squares"


def saved(reference, tmp_path, classes=(), **changes):
    torch.manual_seed(0)
    model = weights.build(reference, categories=[{"id": i, "name": name} for i, name in enumerate(classes, 1)], **changes)
    info = weights.Info(reference=reference, arguments=changes, categories=model.categories, prepare=model.prepare)
    return str(weights.save(model, tmp_path / f"{reference}.safetensors", info))


def augment(*words):
    return command("data").main(args=["augment", *map(str, words), "--device", "cpu", "-q"], standalone_mode=False)


def test_three_operations_between_codes():
    torch.manual_seed(0)
    codes, others, drawn = torch.randn(3, 4, 5).unbind()
    deviation = torch.tensor([1.0, 2.0, 0.0, 0.5, 3.0])
    for row in range(4):
        for k in range(5):
            c, o = codes[row, k], others[row, k]
            assert latents.noise(codes, deviation, drawn, 0.3)[row, k] == pytest.approx(float(c + 0.3 * drawn[row, k] * deviation[k]), abs=1e-6)
            assert latents.interpolate(codes, others, 0.3)[row, k] == pytest.approx(float(0.7 * c + 0.3 * o), abs=1e-6)
            assert latents.extrapolate(codes, others, 0.3)[row, k] == pytest.approx(float(1.3 * c - 0.3 * o), abs=1e-6)
    torch.testing.assert_close(latents.interpolate(codes, others, 1.0), others)
    assert torch.equal(latents.interpolate(codes, others, 0.0), codes)


@pytest.mark.system("feature-space-aug")
def test_partners_are_of_the_class_and_near():
    codes = torch.tensor([[float(i), 0.0] for i in range(30)])
    rng = np.random.default_rng(0)
    found = _enlarge.changed(codes, 60, "interpolate", 0.5, deviation=codes.std(0), rng=rng)
    order = np.concatenate([np.random.default_rng(0).permutation(30)])
    assert found.shape == (60, 2)
    steps = (found[:30, 0] - codes[torch.from_numpy(order), 0]).abs()
    assert (steps > 0).all()
    assert (steps <= 5).all()  # half way to one of the ten nearest; at an end they lie up to 10 away
    with pytest.raises(InputError, match="one picture"):
        _enlarge.changed(codes[:1], 2, "extrapolate", 0.5, deviation=codes[0], rng=rng)


@pytest.mark.system("feature-space-aug")
def test_interpolation_at_zero_is_the_reconstruction(squares, tmp_path):
    reference = saved("autoencoder.tiny", tmp_path)
    counts, _ = _enlarge.between(open_data(squares), tmp_path / "out", reference, n=3, op="interpolate", strength=0.0, classes=["light"])
    assert counts == {"light": 3}
    model, _ = weights.load(reference)
    real = [np.array(Image.open(squares / "light" / f"{i}.png")) for i in range(3)]
    with torch.inference_mode():
        again = model(model.prepare(real).images)
    expected = {picture.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy().tobytes() for picture in again}
    made = {np.array(Image.open(path)).tobytes() for path in (tmp_path / "out" / "light").glob("made-*.png")}
    assert made == expected
    assert len(list((tmp_path / "out" / "light").iterdir())) == 6
    assert len(list((tmp_path / "out" / "dark").iterdir())) == 2


@pytest.mark.system("feature-space-aug")
def test_a_trained_autoencoder_enlarges_real_faces(faces, tmp_path):
    """By the command, with each of the three operations; then a classifier learns from all."""
    settings = {"epochs": 4, "batch_size": 10, "augment": "none"}
    run = train.train("autoencoder.tiny", faces, output=tmp_path / "runs", device="cpu", layers=[settings])
    pictures = {}
    for op in _enlarge.OPERATIONS:
        out = tmp_path / op
        augment(faces, "--autoencoder", run, "--op", op, "-n", 4, "-o", out, "--seed", 3)
        assert [len(list((out / name).iterdir())) for name in CLASSES] == [14] * 3
        pictures[op] = np.stack([np.array(Image.open(out / name / f"made-{i:05d}.png"), float) for name in CLASSES for i in range(1, 5)])
        assert pictures[op].shape == (12, 32, 32, 3)
    assert not np.array_equal(pictures["noise"], pictures["interpolate"])
    assert not np.array_equal(pictures["extrapolate"], pictures["interpolate"])
    run = train.train("simple-cnn.tiny", tmp_path / "extrapolate", output=tmp_path / "runs", device="cpu", layers=[{"steps": 2, "batch_size": 8}])
    assert weights.read_info(run).data["train_images"] == 42


@pytest.mark.system("gan-aug")
def test_a_trained_generator_enlarges_real_faces(faces, tmp_path):
    """It is trained and loaded, told each class by name; `train` then learns from real and made pictures."""
    settings = {"epochs": 3, "batch_size": 10, "augment": "flip", "conditional": True}
    run = train.train("dcgan.tiny", faces, output=tmp_path / "runs", device="cpu", layers=[settings])
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {"d_real", "d_made", "adversarial"} <= set(log[-1])
    out = tmp_path / "more"
    augment(faces, "--generator", run, "-n", 5, "-o", out, "--copy-images")
    for name in CLASSES:
        made = sorted((out / name).glob("made-*.png"))
        assert len(made) == 5
        real = [path for path in (out / name).iterdir() if path not in made]
        assert {path.read_bytes() for path in real} == {path.read_bytes() for path in (faces / name).glob("*.pgm")}
    model, info = weights.load(str(run))
    label = [category["name"] for category in info.categories].index("s2")
    expected = model.sample(5, _enlarge.seed_of(0, "s2"), [label] * 5)[0].mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(np.array(Image.open(out / "s2" / "made-00001.png")), expected)
    run = train.train("simple-cnn.tiny", out, output=tmp_path / "runs", device="cpu", layers=[{"steps": 2, "batch_size": 8}])
    assert weights.read_info(run).data["train_images"] == 45


@pytest.mark.system("gan-aug")
def test_a_generator_without_classes_is_for_one(squares, tmp_path):
    reference = saved("dcgan.tiny", tmp_path)
    with pytest.raises(UsageError, match="no class in particular"):
        _enlarge.generated(open_data(squares), tmp_path / "out", reference, n=2)
    counts, _ = _enlarge.generated(open_data(squares), tmp_path / "out", reference, n=2, classes=["dark"])
    assert counts == {"dark": 2}
    told = saved("dcgan.tiny", tmp_path, classes=("dark", "green"), conditional=True)
    with pytest.raises(UsageError, match="makes no light"):
        _enlarge.generated(open_data(squares), tmp_path / "out", told, n=2)


def test_only_the_training_part_grows(squares, tmp_path):
    for part in ("train", "val"):
        (tmp_path / "parts").mkdir(exist_ok=True)
        (tmp_path / "parts" / part).symlink_to(squares)
    reference = saved("autoencoder.tiny", tmp_path)
    _enlarge.between(open_data(tmp_path / "parts"), tmp_path / "out", reference, n=2, op="noise")
    assert len(list((tmp_path / "out/train/dark").iterdir())) == 4
    assert len(list((tmp_path / "out/val/dark").iterdir())) == 2


def test_what_it_refuses(squares, tmp_path, png):
    autoencoder, generator = saved("autoencoder.tiny", tmp_path), saved("dcgan.tiny", tmp_path)
    data = open_data(squares)
    with pytest.raises(UsageError, match="no generator"):
        _enlarge.generated(data, tmp_path / "out", autoencoder, n=1)
    with pytest.raises(UsageError, match="no autoencoder"):
        _enlarge.between(data, tmp_path / "out", generator, n=1)
    with pytest.raises(UsageError, match="unknown operation"):
        _enlarge.between(data, tmp_path / "out", autoencoder, n=1, op="nois")
    with pytest.raises(UsageError, match="no pictures of the class 'drak'"):
        _enlarge.between(data, tmp_path / "out", autoencoder, n=1, classes=["drak"])
    png("flat/a.png")
    with pytest.raises(InputError, match="no classes"):
        _enlarge.between(open_data(tmp_path / "flat"), tmp_path / "out", autoencoder, n=1)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="no effect without --autoencoder"):
        augment(squares, "--generator", generator, "--op", "noise", "-n", 1, "-o", tmp_path / "out")
    with pytest.raises(UsageError, match="says what makes"):
        augment(squares, "-n", 1, "-o", tmp_path / "out")
