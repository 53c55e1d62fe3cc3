"""The debug ladder: what a run starts with, learning a few pictures by heart, and what differs between two runs."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cvtool import weights
from cvtool.__main__ import main
from cvtool.batch import Prepare
from cvtool.data import synth
from cvtool.data.dataset import Dataset
from cvtool.data.loader import Loader
from cvtool.errors import UsageError
from cvtool.tasks import train as task
from cvtool.train import recipe, sanity
from cvtool.train.log import Reporter

MODEL = "simple-cnn.tiny"


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The program takes SIGTERM; the tests want it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of six pictures each, of which every one is told by its colour."""
    import numpy as np
    from PIL import Image

    draw, root = np.random.default_rng(0), tmp_path_factory.mktemp("classes")
    for label, name in enumerate(("red", "green", "blue")):
        for i in range(6):
            pixels = draw.integers(0, 60, (20, 20, 3), dtype=np.uint8)
            pixels[..., label] += 150
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["train", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.system("debug-ladder")
@pytest.mark.parametrize("count", [1, 6])
def test_learned_by_heart(capsys, folders: Path, tmp_path: Path, count: int) -> None:
    code, out, err = run(capsys, "-m", MODEL, "--data", folders, "--overfit", count, "--lr", "0.01", "-o", tmp_path / "runs")
    assert code == 0, err
    assert "learned by heart" in err
    assert "accuracy 100.0 %" in err
    folder = Path(out.strip())
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    last = lines[-1]
    assert last["val_accuracy"] == 1
    assert last["val_loss"] < 0.06
    ticks = [line for line in lines if line["kind"] == "tick"]
    assert ticks
    assert all(line["seconds_per_iteration"] > 0 for line in ticks)
    settings = recipe.Plan.read(folder / "recipe.toml").recipe
    assert (settings["augment"], settings["overfit"], settings["ema"]) == ("none", count, 0.0)
    assert weights.read_info(folder).data["train_images"] == max(2, count)
    code, out, _ = run(capsys, "--resume", folder)  # it is over, and says so again
    assert (code, out.strip()) == (0, str(folder))


@pytest.mark.system("debug-ladder")
def test_not_learned_by_heart_is_a_failure(capsys, folders: Path, tmp_path: Path) -> None:
    code, out, err = run(capsys, "-m", MODEL, "--data", folders, "--overfit", 3, "--lr", "1e-7", "--steps", "4", "-o", tmp_path / "runs")
    assert (code, out) == (1, "")
    assert "not learned by heart: loss" in err
    assert "after 4 turns" in err
    assert "--find-lr" in err
    assert (tmp_path / "runs/0001/log.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--augment", "flip"), "--augment has no effect with --overfit"),
        (("--early-stop",), "--early-stop has no effect with --overfit"),
        (("--input-noise", "0.1"), "--input-noise has no effect"),
    ],
)
def test_what_overfitting_leaves_no_room_for(capsys, folders: Path, words: tuple, said: str) -> None:
    code, _, err = run(capsys, "-m", MODEL, "--data", folders, "--overfit", 2, *words)
    assert (code, said in err) == (2, True), err


def test_which_pictures() -> None:
    assert sanity.chosen("abcdef", 6, 0) == list("abcdef")
    assert sanity.chosen("abcdef", 1, 0)[0] == sanity.chosen("abcdef", 1, 0)[1]
    picked = sanity.chosen("abcdef", 3, 1)
    assert picked == sorted(picked)
    assert picked == sanity.chosen("abcdef", 3, 1)
    assert len({tuple(sanity.chosen("abcdef", 3, seed)) for seed in range(9)}) > 3
    with pytest.raises(UsageError, match="there are 6 pictures"):
        sanity.chosen("abcdef", 7, 0)


def test_time_enough_unless_told() -> None:
    base = recipe.resolve({"overfit": 8, "batch_size": 4, "augment": "flip", "ema": 0.9, "label_smoothing": 0.1, "epochs": 3})
    found = sanity.overfitting(base, {})
    assert found["epochs"] * 2 >= sanity.TURNS
    assert (found["augment"], found["ema"], found["label_smoothing"], found["batch_size"]) == ("none", 0.0, 0.0, 4)
    told = sanity.overfitting(base, {"epochs": 3, "label_smoothing": 0.1, "val_every": 1})
    assert (told["epochs"], told["label_smoothing"], told["val_every"]) == (3, 0.1, 1)


class Told(Reporter):
    detailed = True

    def __init__(self) -> None:
        self.lines: list[str] = []

    def detail(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.system("debug-ladder")
def test_a_run_starts_with_a_report_and_is_the_same_without(folders: Path, tmp_path: Path) -> None:
    told = Told()
    more = {"layers": [{"epochs": 1, "batch_size": 6, "seed": 3}], "device": "cpu"}
    ours = task.train(MODEL, folders, output=tmp_path, reporter=told, **more)
    plain = task.train(MODEL, folders, output=tmp_path, **more)
    first, truth, parameters, loss = told.lines
    assert first.startswith("first batch: 6 x 3 x ")
    assert sum(int(part.rsplit(" ", 1)[1]) for part in truth.removeprefix("its truth: ").split(", ")) == 6
    model = weights.load(str(ours))[0]
    assert f"{sum(p.numel() for p in model.parameters()):,}" in parameters
    assert f"guessing among 3 classes costs ln 3 = {math.log(3):.4g}" in loss
    a, b = weights.read_tensors(ours / "last.safetensors"), weights.read_tensors(plain / "last.safetensors")
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_first_loss_worse_than_a_guess_is_told() -> None:
    assert "worse than a guess" in sanity._first_loss({"cross_entropy": 9.0}, 10, "labels", 32)
    assert "worse" not in sanity._first_loss({"cross_entropy": 2.4}, 10, "labels", 32)
    assert "guess" not in sanity._first_loss({"box": 9.0}, 10, "boxes", 32)


def test_a_report_of_a_detectors_batch() -> None:
    model = weights.build("faster-rcnn.tiny", categories=synth.CATEGORIES)
    loader = Loader(Dataset(synth.shapes(3, 48, seed=1), synth.CATEGORIES), Prepare(resize="longest", size=64), batch_size=3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    lines = list(sanity.report(model, loader, kind="boxes", device=torch.device("cpu")))
    assert any("circle" in line or "square" in line for line in lines)
    assert lines[-1].startswith("first loss: ")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.system("debug-ladder")
def test_what_differs_between_two_runs(capsys, tmp_path: Path) -> None:
    for number, (lr, more) in enumerate(((0.1, {}), (0.2, {"clip": 3.0})), 1):
        plan = task.plan(MODEL, "there", layers=[{"lr": lr} | more], split="train" if number == 1 else None, command=["cvtool", str(number)])
        folder = tmp_path / f"000{number}"
        folder.mkdir()
        (folder / "recipe.toml").write_text(plan.to_toml())
    code, out, _ = run(capsys, "--diff", tmp_path / "0001", tmp_path / "0002")
    assert code == 0
    clip = recipe.Plan.read(tmp_path / "0001/recipe.toml").recipe["clip"]
    assert sorted(out.splitlines()) == sorted([f"clip\t{clip}\t3.0", "lr\t0.1\t0.2", "split\ttrain\t-"])
    assert run(capsys, "--diff", tmp_path / "0001", tmp_path / "0001")[1] == ""
    code, _, err = run(capsys, "--diff", tmp_path / "0001", tmp_path / "0002", "--lr", "3")
    assert (code, "--lr has no effect with --diff" in err) == (2, True)
    code, _, err = run(capsys, "--diff", tmp_path / "0001")
    assert (code, "two run folders" in err) == (2, True)
    code, _, err = run(capsys, "--diff", tmp_path / "0001", tmp_path)
    assert (code, "not a run folder" in err) == (2, True)
