"""What a user types wrong or hands in broken: one to three lines that say what to do, the right exit code, and nothing half written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvtool.__main__ import main
from cvtool.errors import CvtoolError

CLASSIFIER = "simple-cnn.tiny"


def labelled(root: Path, classes: str = "ab", count: int = 4, side: int = 16) -> Path:
    draw = np.random.default_rng(0)
    for at, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = draw.integers(60 * at, 60 * at + 90, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def boxes(path: Path, pictures: Path, category: int = 1) -> Path:
    """A COCO file of the pictures in a folder, a box each; the last is of `category`."""
    names = sorted(file.name for file in pictures.glob("*.png"))
    images = [{"id": i, "file_name": name, "width": 64, "height": 64} for i, name in enumerate(names, 1)]
    found = [{"id": i, "image_id": i, "category_id": 1, "bbox": [8, 8, 30, 30], "area": 900, "iscrowd": 0} for i in range(1, len(names) + 1)]
    found[-1]["category_id"] = category
    path.write_text(json.dumps({"images": images, "annotations": found, "categories": [{"id": 1, "name": "thing"}]}))
    return path


def train(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["train", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out.strip(), said.err


def refused(capsys: pytest.CaptureFixture[str], code: int, told: str, *words: object) -> None:
    got, out, err = train(capsys, *words)
    lines = [line for line in err.splitlines() if " parameters on cpu: " not in line and "parameters learn" not in line]
    assert told in err
    assert (got, out) == (code, "")
    assert 1 <= len(lines) <= 3


def test_either_spelling_of_a_name(capsys, tmp_path: Path) -> None:
    data, runs = labelled(tmp_path / "data", side=32), tmp_path / "runs"
    common = ("--data", data, "--epochs", 1, "-o", runs, "-q")
    for words in (("-m", "resnet.tiny", "--freeze", "all_but_head"), ("-m", CLASSIFIER, "--preprocess", "pca_whiten:2", "--img-size", 16)):
        code, _, err = train(capsys, *words, *common)
        assert code == 0, err
    code, out, err = train(capsys, "--update", "Ensemble_New", "--base", runs / "0001", *common)
    assert code == 0, err
    assert out == f"ensemble:{runs}/0001,{runs}/0003"


def test_a_category_that_only_validation_knows(capsys, tmp_path: Path) -> None:
    data = labelled(tmp_path / "data", "a", side=64) / "a"
    good, bad = boxes(tmp_path / "good.json", data), boxes(tmp_path / "bad.json", data, category=9)
    words = ("-m", "faster-rcnn.tiny", "--data", good, "--data-val", bad, "--images", data, "-o", tmp_path / "runs")
    refused(capsys, 3, "category 9 is not one of those trained on", *words)
    train_set, val = labelled(tmp_path / "train"), labelled(tmp_path / "val", "abc")
    refused(capsys, 3, "category c is not one of those trained on", "-m", CLASSIFIER, "--data", train_set, "--data-val", val, "-o", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_list_whose_first_line_is_broken_is_named(capsys, tmp_path: Path) -> None:
    data = labelled(tmp_path / "data", "a", side=32)
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(data / "m.png")
    (data / "val.txt").write_text("a/0.png m.png\n")
    (data / "train.txt").write_text("a/0.png\n")
    refused(capsys, 3, f"{data}/train.txt:1", "-m", "unet.tiny", "--data", data, "-o", tmp_path / "runs")


def test_a_search_that_could_not_tell_which_is_better(capsys, tmp_path: Path) -> None:
    words = ("-m", CLASSIFIER, "--data", labelled(tmp_path / "data"), "--search", "depth=1|2", "-o", tmp_path / "runs")
    refused(capsys, 2, "nothing to validate on", *words)
    assert not (tmp_path / "runs").exists()


def test_weights_of_another_model_that_fit_by_chance(capsys, tmp_path: Path) -> None:
    data, runs = labelled(tmp_path / "data", side=32), tmp_path / "runs"
    assert train(capsys, "-m", "resnet.20@none", "--data", data, "--steps", 1, "-o", runs, "-q")[0] == 0
    refused(capsys, 4, "almost nothing of", "-m", "resnet.tiny", "--data", data, "--init", runs / "0001", "-o", tmp_path / "others")
    refused(capsys, 4, "belongs to resnet.20", "-m", f"{CLASSIFIER}@{runs}/0001/model.safetensors", "--data", data)
    (tmp_path / "junk.pth").write_text("junk")
    refused(capsys, 4, "no file of torch's", "-m", f"resnet.tiny@{tmp_path}/junk.pth", "--data", data)
    assert not (tmp_path / "others").exists()


def test_a_size_that_the_network_cannot_see(capsys, tmp_path: Path) -> None:
    data = labelled(tmp_path / "data", side=32)
    refused(capsys, 2, "cannot learn from pictures of 64 pixels", "-m", "lenet", "--data", data, "--img-size", 64, "-o", tmp_path / "runs")
    assert train(capsys, "-m", "lenet", "--data", data, "--steps", 1, "-o", tmp_path / "runs", "-q")[:2] == (0, f"{tmp_path}/runs/0002")
    for words, option in ((("--img-size", "64"), "--img-size"), (("--tta", "scale:2"), "the scale of --tta")):
        assert main(["classify", str(data / "a/0.png"), "-m", str(tmp_path / "runs/0002"), *words]) == 2
        assert f"leave {option} out" in capsys.readouterr().err


def test_no_memory(capsys, tmp_path: Path, monkeypatch) -> None:
    from cvtool.layers.classifier import Classifier

    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 75000000000000 bytes")

    monkeypatch.setattr(Classifier, "losses", full)
    refused(capsys, 1, "out of memory with batches of 8", "-m", CLASSIFIER, "--data", labelled(tmp_path / "d"), "-b", 8, "-o", tmp_path / "runs")


@pytest.fixture
def full_disk(monkeypatch) -> None:
    """No recipe can be written."""
    write = Path.write_text

    def refuse(path: Path, text: str, **options: str) -> int:
        if path.name == ".recipe.toml":
            write(path, text[:10], **options)  # type: ignore[arg-type]
            raise OSError(28, "No space left on device")
        return write(path, text, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", refuse)


def test_no_room_for_a_run_folder(capsys, tmp_path: Path, full_disk) -> None:
    runs = tmp_path / "runs"
    refused(capsys, 1, "No space left on device", "-m", CLASSIFIER, "--data", labelled(tmp_path / "data"), "-o", runs)
    assert not list(runs.iterdir())


def test_no_room_for_a_checkpoint(capsys, tmp_path: Path, monkeypatch) -> None:
    from cvtool import weights
    from cvtool.train import run

    data, runs = labelled(tmp_path / "data"), tmp_path / "runs"
    assert train(capsys, "-m", CLASSIFIER, "--data", data, "--epochs", 1, "-o", runs, "-q")[0] == 0
    before = (runs / "0001/last.safetensors").read_bytes()

    def full(*_: object) -> None:
        raise CvtoolError("cannot write the checkpoint: No space left on device", where=runs / "0001/last.safetensors")

    with monkeypatch.context() as patch:
        patch.setattr(run.weights, "save", full)
        refused(capsys, 1, f"cvtool train --resume {runs}/0001", "--resume", runs / "0001", "--epochs", 2, "-q")
    assert (runs / "0001/last.safetensors").read_bytes() == before
    (runs / "0001/.state.pt.4711").touch()  # of a process that was killed while it saved
    (runs / "0001/.best.safetensors.4711.tmp").touch()
    assert train(capsys, "--resume", runs / "0001", "--epochs", 2, "-q")[0] == 0
    assert not [path.name for path in (runs / "0001").iterdir() if path.name.startswith(".")]
    assert weights.read_info(runs / "0001").metrics["epoch"] == 2


def test_a_state_of_another_run_says_what_differs(capsys, tmp_path: Path) -> None:
    data, runs = labelled(tmp_path / "data"), tmp_path / "runs"
    for words in ((), ("--optimizer", "sgd", "--ema", "0.9")):
        assert train(capsys, "-m", CLASSIFIER, "--data", data, "--epochs", 1, "-o", runs, "-q", *words)[0] == 0
    shutil.copy(runs / "0001/state.pt", runs / "0002/state.pt")
    refused(capsys, 2, "ema was 0.0, now 0.9, optimizer was adamw, now sgd", "--resume", runs / "0002", "--epochs", 2)
    (runs / "0002/state.pt").write_text("junk")
    refused(capsys, 3, "not the state of a training run", "--resume", runs / "0002", "--epochs", 2)
    refused(capsys, 2, "--resume cannot change lr (it was 0.003, not 0.1)", "--resume", runs / "0001", "--lr", 0.1)


def test_views_are_refused_before_a_model_is_loaded(capsys) -> None:
    for verb in ("classify", "segment", "detect"):
        assert main([verb, "nowhere.png", "-m", "resnet.18", "--tta", "hflop"]) == 2
        assert "did you mean hflip" in capsys.readouterr().err
    assert main(["embed", "nowhere.png", "-m", "handcrafted", "--tta", "hflip"]) == 2
    assert "no such option --tta" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("train", "-m", "no-such-net.tiny", "--down", "avg", "--data", "x"), 4, "unknown model 'no-such-net'"),
        (("visualize", "augment", "x.png"), 2, "--augment flip"),
        (("data", "split", "x"), 2, "80,10,10"),
    ],
)
def test_the_hint_is_about_what_was_meant(words: tuple[str, ...], code: int, said: str, capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    assert said in capsys.readouterr().err


def test_the_rate_finder_draws_into_the_file_that_was_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = labelled(tmp_path / "flowers", count=6)
    picture = tmp_path / "curves" / "lr.png"
    words = ("train", "-m", CLASSIFIER, "--data", str(data), "--find-lr", "--steps", "8", "-b", "4", "-o", str(picture))
    assert main(words) == 0
    assert picture.is_file()
    assert str(picture) in capsys.readouterr().err
