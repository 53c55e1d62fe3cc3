"""Whole runs on drawn shapes: what a run folder holds, and that a killed run ends as if nothing had happened."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from cvtool import weights
from cvtool.data import synth
from cvtool.errors import CvtoolError, InputError, ModelError, UsageError
from cvtool.tasks import train as task
from cvtool.tasks._sets import cache_bytes
from cvtool.tasks._start import start_from
from cvtool.train.log import TIMES, Reporter
from cvtool.train.run import Run

MODEL = "faster-rcnn.tiny"
SETTINGS = {"epochs": 3, "ema": 0.9, "augment": "flips,crop,color", "batch_size": 4}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    synth.write_shapes(folder, 8, 64, seed=2, name="val")
    return synth.write_shapes(folder, 13, 64, seed=1)


def child(work, *arguments) -> multiprocessing.Process:
    """`work` in a process of its own; one thread, because a forked process cannot use its parent's."""

    def run() -> None:
        torch.set_num_threads(1)
        try:
            work(*arguments)
        except CvtoolError as error:
            os._exit(error.exit_code)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def finish(process: multiprocessing.Process) -> int | None:
    process.join(300)  # a busy machine is no failure
    return process.exitcode


def start(drawn: Path, output: Path, **more) -> None:
    given = {"data_val": drawn.with_name("val.json"), "layers": [SETTINGS]} | more
    task.train(MODEL, drawn, output=output, device="cpu", **given)


def diary(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


@pytest.fixture(scope="module")
def whole(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    output = tmp_path_factory.mktemp("whole")
    assert finish(child(start, drawn, output)) == 0
    return output / "0001"


def test_a_run_folder(whole: Path) -> None:
    assert sorted(path.name for path in whole.iterdir()) == [
        "best.safetensors", "curves.png", "environment.json", "last.safetensors", "log.jsonl", "model.safetensors", "recipe.toml", "state.pt",
    ]  # fmt: skip
    info = weights.read_info(whole)
    assert info.reference == MODEL
    assert [c["name"] for c in info.categories] == ["circle", "square", "triangle"]
    assert [c["id"] for c in info.categories] == [1, 2, 3]
    assert info.recipe["epochs"] == 3
    assert info.seed == 0
    assert info.data["train_images"] == 13
    assert info.data["val_images"] == 8
    assert info.data["train_objects"] > 13
    epochs = [line for line in diary(whole) if line["kind"] == "epoch"]
    assert len(epochs) == 3
    best = max(epochs, key=lambda line: line["AP"])
    assert info.metrics["AP"] == pytest.approx(best["AP"], rel=1e-5)
    assert {"val_loss", "val_box", "AP50"} <= set(best)
    model, _ = weights.load(str(whole))
    assert model.prepare.size == 64
    assert (whole / "model.safetensors").read_bytes() == (whole / "best.safetensors").read_bytes()


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_any_moment_it_ends_the_same(drawn: Path, whole: Path, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    lasted = (whole / "log.jsonl").stat().st_mtime - (whole / "recipe.toml").stat().st_mtime
    recipe, kills = tmp_path / "0001" / "recipe.toml", 0
    process = child(start, drawn, tmp_path)
    for number in range(4):
        while not recipe.exists():
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.7) * lasted * number / 3)  # the first at once: `lasted` may have been measured on a busier machine
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            finish(process)
            kills += 1
            process = child(lambda: task.resume(tmp_path / "0001", device="cpu"))
    assert finish(process) == 0
    assert kills
    assert diary(tmp_path / "0001") == diary(whole)
    for name in ("last.safetensors", "best.safetensors"):
        ours, theirs = weights.read_tensors(tmp_path / "0001" / name), weights.read_tensors(whole / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_workers_change_nothing(drawn: Path, whole: Path, tmp_path: Path) -> None:
    layers = [SETTINGS | {"steps": 3}]
    for workers, output in ((0, tmp_path / "a"), (2, tmp_path / "b")):
        assert finish(child(lambda w=workers, o=output: start(drawn, o, workers=w, layers=layers, split_val=None, data_val=None))) == 0
    assert diary(tmp_path / "a" / "0001") == diary(tmp_path / "b" / "0001")


class Kill(Reporter):
    """Asks its own process to end after some turns, or ends it."""

    def __init__(self, turn: int, number: int = signal.SIGTERM) -> None:
        self.when, self.number = turn, number

    def turn(self, *, turn: int, **values) -> None:
        if turn == self.when:
            os.kill(os.getpid(), self.number)


EVERYTHING = SETTINGS | {
    "batch_size": 2, "accumulate": 2, "epochs": 3, "schedule": "plateau:0,factor=0.5", "input_noise": 0.05, "l1": 1e-6, "statistics": 3,
    "early_stop": 5, "save_every": 1, "warmup": 0.1,
}  # fmt: skip


def test_killed_inside_an_epoch_with_everything_on(drawn: Path, tmp_path: Path) -> None:
    """A moving average, a plateau, augmentation, accumulation, noise, a penalty, statistics and patience: the same losses and weights to the bit."""
    layers = [EVERYTHING]
    assert finish(child(lambda: start(drawn, tmp_path / "a", layers=layers))) == 0
    assert finish(child(lambda: start(drawn, tmp_path / "b", layers=layers, reporter=Kill(5, signal.SIGKILL)))) == -signal.SIGKILL
    killed = tmp_path / "b/0001"
    turns = [line["iteration"] for line in diary(killed) if line["kind"] == "epoch"]
    assert turns == [3]  # turn 5 of 9 is inside the second epoch
    assert "waited" in Run(killed).state()["schedule"]
    assert finish(child(lambda: task.resume(killed, device="cpu"))) == 0
    whole = diary(tmp_path / "a/0001")
    assert diary(killed) == whole
    assert {"tick", "epoch", "statistics"} == {line["kind"] for line in whole}
    for name in ("last.safetensors", "best.safetensors"):
        ours, theirs = weights.read_tensors(killed / name), weights.read_tensors(tmp_path / "a/0001" / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_terminated_inside_an_epoch(drawn: Path, whole: Path, tmp_path: Path) -> None:
    assert finish(child(lambda: start(drawn, tmp_path, reporter=Kill(6)))) == 143
    assert finish(child(lambda: task.resume(tmp_path / "0001", device="cpu"))) == 0
    assert diary(tmp_path / "0001") == diary(whole)


def test_resumed_before_the_first_save(drawn: Path, whole: Path, tmp_path: Path) -> None:
    planned = task.plan(MODEL, drawn, data_val=drawn.with_name("val.json"), layers=[SETTINGS])
    run = Run.make(tmp_path, planned)
    (run.folder / "log.jsonl").write_text('{"kind": "tick", "cut sh')
    assert finish(child(lambda: task.resume(run.folder, device="cpu"))) == 0
    assert diary(run.folder) == diary(whole)


def test_resume_may_run_longer_but_not_be_another_run(drawn: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot change augment .*lr") as error:
        task.resume(whole, settings={"lr": 0.1, "epochs": 9, "augment": "none", "batch_size": 4})
    assert "lr (it was 0.002, not 0.1)" in str(error.value)
    assert "augment (it was flips,crop,color, not none)" in str(error.value)
    assert "batch_size" not in str(error.value)  # it is what it was
    assert "may change epochs" in str(error.value)
    with pytest.raises(UsageError, match="not a run folder"):
        task.resume(tmp_path)
    assert finish(child(lambda: start(drawn, tmp_path, layers=[SETTINGS | {"steps": 2}], data_val=None))) == 0
    assert finish(child(lambda: task.resume(tmp_path / "0001", settings={"steps": 4}, device="cpu"))) == 0
    assert diary(tmp_path / "0001")[-1]["iteration"] == 4
    assert Run.open(tmp_path / "0001")[1].recipe["steps"] == 4  # and a second resume remembers
    assert not (tmp_path / "0001" / "best.safetensors").exists()
    assert (tmp_path / "0001" / "model.safetensors").exists()


def test_a_full_disk_keeps_the_last_good_checkpoint(drawn: Path, whole: Path, tmp_path: Path) -> None:
    def work() -> None:
        from cvtool import checkpoint
        from cvtool.train import state

        calls = {"count": 0}
        real = os.fsync

        def fsync(number: int) -> None:
            calls["count"] += 1
            if calls["count"] > 8:
                raise OSError(28, "No space left on device")
            real(number)

        checkpoint.os.fsync = state.os.fsync = fsync
        start(drawn, tmp_path)

    assert finish(child(work)) == 1
    folder = tmp_path / "0001"
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert len(weights.read_tensors(folder / "last.safetensors")) > 10
    assert finish(child(lambda: task.resume(folder, device="cpu"))) == 0
    assert diary(folder) == diary(whole)


def test_numbers_are_taken_once(drawn: Path, tmp_path: Path) -> None:
    planned = task.plan(MODEL, drawn)
    (tmp_path / "0007").mkdir()
    (tmp_path / "notes").mkdir()
    assert [Run.make(tmp_path, planned).folder.name for _ in range(2)] == ["0008", "0009"]


def test_starting_from_other_weights(drawn: Path, whole: Path, tmp_path: Path) -> None:
    planned = task.plan(str(whole), drawn)
    assert (planned.model, planned.recipe["init"]) == (MODEL, str(whole))
    with pytest.raises(UsageError, match="both say where to start"):
        task.plan(str(whole), drawn, layers=[{"init": "faster-rcnn.tiny@none"}])
    model = weights.build(MODEL, categories=[{"id": 1, "name": "a"}])
    note, _ = start_from(model, str(whole), offline=True)
    assert "start afresh" in note
    ours, theirs = model.state_dict(), weights.load(str(whole))[0].state_dict()
    fresh = [key for key in ours if ours[key].shape != theirs[key].shape]
    assert fresh
    assert all(torch.equal(ours[key], theirs[key]) for key in ours if key not in fresh)
    with pytest.raises(ModelError, match="nothing of"):
        start_from(torch.nn.Linear(2, 2), str(whole), offline=True)


def test_names_and_sizes_are_checked_before_anything_is_read() -> None:
    for layer, said in (
        ({"augment": "flop"}, "flip"),
        ({"optimizer": "adamx"}, "adamw"),
        ({"cache": "big"}, "2GB"),
        ({"momentum": 0.5}, "no effect"),
    ):
        with pytest.raises(UsageError, match=said):
            task.plan(MODEL, "nowhere", layers=[layer])
    assert cache_bytes("1.5kb", []) == 1536
    assert cache_bytes("2GB", []) == 2 << 30
    assert cache_bytes("none", []) == 0
    assert cache_bytes("auto", [{"width": 100, "height": 10}]) == 3000
    assert cache_bytes("auto", [{"width": 100_000, "height": 10_000}]) == 0


def test_arguments_of_the_model_survive(drawn: Path, tmp_path: Path) -> None:
    work = child(lambda: task.train("retinanet.tiny", drawn, output=tmp_path, device="cpu", layers=[{"epochs": 1, "box_weight": 1.5}]))
    assert finish(work) == 0
    run = tmp_path / "0001"
    assert weights.read_info(run).arguments == {"box_weight": 1.5}
    assert finish(child(lambda: task.resume(run, settings={"epochs": 2}, device="cpu"))) == 0
    assert weights.read_info(run / "last.safetensors").arguments == {"box_weight": 1.5}
    assert weights.load(str(run))[0].box_weight == 1.5
    assert task.plan(str(run), drawn).arguments == {"box_weight": 1.5}


def test_a_model_that_merges_categories(drawn: Path, tmp_path: Path) -> None:
    val = drawn.with_name("val.json")
    work = child(lambda: task.train("rpn.tiny", drawn, data_val=val, output=tmp_path, device="cpu", layers=[{"epochs": 1, "steps": 2}]))
    assert finish(work) == 0
    info = weights.read_info(tmp_path / "0001")
    assert [c["name"] for c in info.categories] == ["object"]
    assert "AP" in info.metrics
    assert [c["name"] for c in weights.load("rpn.tiny@none")[1].categories] == ["object"]


def test_a_recipe_edited_by_hand_is_refused(whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('optimizer = "adamw"', 'optimizer = "sgd"'))
    assert finish(child(lambda: task.resume(run, settings={"epochs": 4}, device="cpu"))) == UsageError.exit_code
    kept = Run(run)
    kept.settled = {"optimizer": "sgd"}
    with pytest.raises(UsageError, match="optimizer was adamw, now sgd"):
        kept.compare(kept.state() or {})


def test_a_model_and_data_that_do_not_fit_make_no_folder(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="learns keypoints"):
        task.train("keypoint-rcnn.tiny", drawn, output=tmp_path / "runs", device="cpu")
    with pytest.raises(InputError, match="a class for each picture"):
        task.train("torchvision:resnet18@none", drawn, output=tmp_path / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()
