"""`cvtool train` as it is typed: what stands on stdout, which setting wins, how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvtool.__main__ import main
from cvtool.data import synth

MODEL = "faster-rcnn.tiny"


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The program takes SIGTERM; the tests want it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def resolved(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    """The recipe that --dry-run prints."""
    code = main(["train", "--dry-run", *map(str, words)])
    said = capsys.readouterr()
    assert code == 0, said.err
    return tomllib.loads(said.out)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = main(["train", *map(str, words)])
    said = capsys.readouterr()
    assert said.out == ""
    return code, said.err


def test_command_line_over_environment_over_file_over_recipe(capsys, monkeypatch, tmp_path: Path) -> None:
    base = resolved(capsys, "-m", MODEL)
    assert base["model"] == MODEL
    assert base["lr"] == 0.002  # the model's own
    file = tmp_path / "c.toml"
    file.write_text("lr = 0.1\nepochs = 7\nclip = 3\nweight_decay = 0.5\n[train]\nbatch-size = 9\n[detect]\nconf = 0.5\n")
    monkeypatch.setenv("CVTOOL_LR", "0.2")
    monkeypatch.setenv("CVTOOL_EPOCHS", "8")
    found = resolved(capsys, "-m", MODEL, "-c", file, "--lr", "0.3", "--set", "clip=4")
    assert [found[key] for key in ("lr", "epochs", "clip", "weight_decay", "batch_size")] == [0.3, 8, 4.0, 0.5, 9]
    found = resolved(capsys, "-m", MODEL, "-c", file, "--set", "lr=0.4")  # --set outdoes the environment, as the option does
    assert found["lr"] == 0.4


def test_the_help_names_all_there_is(capsys) -> None:
    from cvtool.data import balance, preprocess
    from cvtool.data.augment import AUGMENTATIONS
    from cvtool.train import initialize, optimizers, schedule

    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split()).replace("- ", "-")  # lines are broken behind hyphens too
    assert ", ".join(AUGMENTATIONS) in text
    named = (*optimizers.names(), *schedule.NAMES, *preprocess.NAMES, *balance.NAMES, *initialize.NAMES)
    assert not [name for name in named if name not in text]


def test_a_named_option_is_its_setting(capsys) -> None:
    a = resolved(capsys, "-m", MODEL, "--ema", "0.9", "--img-size", "96", "--augment", "flips,crop", "--steps", "5", "-b", "2", "--seed", "3")
    b = resolved(
        capsys, "-m", MODEL, *[w for s in ("ema=.9", "img-size=96", "augment=flips,crop", "steps=5", "batch_size=2", "seed=3") for w in ("--set", s)]
    )
    assert a | {"made": 0} == b | {"made": 0}
    code, said = refused(capsys, "-m", MODEL, "--data", "x", "--ema", "0.9", "--set", "ema=0.9")
    assert code == 2
    assert "--ema and --set ema" in said


def test_what_it_prints_is_a_config_file(capsys, tmp_path: Path) -> None:
    main(["train", "-m", MODEL, "--data", "some/where", "--split", "trainval", "--lr", "0.7", "--dry-run"])
    file = tmp_path / "recipe.toml"
    file.write_text(capsys.readouterr().out)
    again = resolved(capsys, "-c", file, "--epochs", "3")
    assert (again["data"], again["split"], again["lr"], again["epochs"]) == ("some/where", "trainval", 0.7, 3)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-m", MODEL], 2, "--data is missing"),
        (["--data", "x"], 2, "--model is missing"),
        (["-m", MODEL, "--data", "x", "--set", "epoch=3"], 2, "did you mean epochs"),
        (["-m", MODEL, "--data", "x", "--set", "epochs"], 2, "KEY=VALUE"),
        (["-m", MODEL, "--data", "x", "--schedule", "one-cicle"], 2, "did you mean one-cycle"),
        (["-m", MODEL, "--data", "x", "--precision", "fp8"], 2, "fp32"),
        (["-m", MODEL, "--data", "x", "--epochs", "0"], 2, "--epochs"),
        (["-m", "faster-rcn", "--data", "x"], 4, "did you mean faster-rcnn"),
        (["-m", MODEL, "--data", "no/such/place"], 3, "no such file"),
        (["--resume", "no/such/run"], 2, "not a run folder"),
        (["--resume", "runs/0001", "--data", "x"], 2, "--resume cannot change --data"),
        (["--resume", "runs/0001", "-m", "x"], 2, "--resume cannot change --model"),
        (["--resume", "runs/0001", "-n"], 2, "no effect"),
    ],
)
def test_errors(capsys, words: list[str], code: int, said: str) -> None:
    got, text = refused(capsys, *words)
    assert said in text
    assert got == code
    assert 1 <= len(text.splitlines()) <= 3


def test_an_argument_of_the_models_construction_is_a_setting(capsys, tmp_path: Path) -> None:
    a = resolved(capsys, "-m", "mask-rcnn.tiny", "--mask-loss", "softmax")
    b = resolved(capsys, "-m", "mask-rcnn.tiny", "--set", "mask_loss=softmax")
    assert a["mask_loss"] == b["mask_loss"] == "softmax"
    assert resolved(capsys, "-m", "retinanet.tiny", "--box-weight=2")["box_weight"] == 2.0
    file = tmp_path / "c.toml"
    file.write_text('mask_loss = "softmax"\n')
    assert resolved(capsys, "-m", "mask-rcnn.tiny", "-c", file)["mask_loss"] == "softmax"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mask-loss", "softmax", "--set", "mask_loss=softmax"], "--mask-loss and --set mask_loss are given both"),
        (["--mask-loss", "softmax", "--mask-loss=x"], "given twice"),
        (["--mask-los", "softmax"], "did you mean --mask-loss"),
        (["--epcohs", "3"], "did you mean --epochs"),
        (["--set", "mask_los=x"], "did you mean mask_loss"),
        (["--set", "epohcs=3"], "did you mean epochs"),
        (["--mask-loss"], "--mask-loss needs a value"),
        (["--classes", "3"], "no such option --classes"),
        (["--mask-channels", "many"], "mask_channels is a whole number"),
        (["--img-size", "64", "--set", "image_size=96"], "img_size and image_size"),
        (["stray"], "unexpected argument 'stray'"),
        (["-z"], "no such option -z"),
    ],
)
def test_an_option_that_nobody_knows(capsys, words: list[str], said: str) -> None:
    code, text = refused(capsys, "-m", "mask-rcnn.tiny", "--data", "x", "-n", *words)
    assert said in text
    assert code == 2


def test_an_option_without_effect(capsys, drawn: Path, tmp_path: Path) -> None:
    code, text = refused(capsys, "-m", MODEL, "--data", drawn, "--val-every", "2", "-o", tmp_path / "runs")
    assert (code, "--val-every has no effect" in text) == (2, True)
    code, text = refused(capsys, "-m", MODEL, "--data", drawn, "-o", drawn)
    assert (code, "this is a file" in text) == (2, True)
    assert not (tmp_path / "runs").exists()


def test_no_run_folder_for_a_command_that_cannot_run(cvtool, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    done = cvtool("train", "-m", MODEL, "--data", "a.json")
    assert done.returncode == 3
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    synth.write_shapes(folder, 4, 64, seed=2, name="val")
    return synth.write_shapes(folder, 12, 64, seed=1)


def test_from_the_command_to_a_model_that_detects(cvtool, drawn: Path, tmp_path: Path) -> None:
    done = cvtool("train", "-m", MODEL, "--data", drawn, "--data-val", drawn.with_name("val.json"), "--epochs", "2", "-o", "runs/")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "runs/0001\n"
    assert "epoch 2/2" in done.stderr
    assert "AP50" in done.stderr
    assert (tmp_path / "runs/0001/model.safetensors").exists()
    recipe = tomllib.loads((tmp_path / "runs/0001/recipe.toml").read_text())
    assert recipe["made"]["command"].startswith("cvtool train -m faster-rcnn.tiny --data")
    again = cvtool("train", "-q", "-c", "runs/0001/recipe.toml", "--steps", "1")
    assert (again.returncode, again.stdout, again.stderr) == (0, "runs/0002\n", "")


def test_terminated_it_says_how_to_go_on(cvtool, drawn: Path, tmp_path: Path) -> None:
    from subprocess import PIPE

    command = [
        sys.executable,
        "-m",
        "cvtool",
        "train",
        "-m",
        MODEL,
        "--data",
        str(drawn),
        "--epochs",
        "2000",
        "-o",
        str(tmp_path / "runs"),
        "-j",
        "2",
    ]
    process = subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, cwd=Path(__file__).parents[2], start_new_session=True)
    log = tmp_path / "runs/0001/log.jsonl"
    for _ in range(600):
        time.sleep(0.1)
        if log.exists() and log.stat().st_size:
            break
    os.killpg(process.pid, signal.SIGTERM)  # the workers get it too, as from a batch system
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert out == ""
    assert f"cvtool train --resume {tmp_path}/runs/0001" in err
    turn = log.read_text().count("\n")
    assert turn >= 1
    done = cvtool("train", "--resume", tmp_path / "runs/0001", "--epochs", "1")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/runs/0001\n"), done.stderr


def labelled(root: Path, classes: int = 2, count: int = 4) -> Path:
    """Class folders of small pictures, each class of its own brightness."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for label in range(classes):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(draw.integers(60 * label, 60 * label + 90, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return root


CLASSIFIER = "simple-cnn.tiny"


def test_early_stop_takes_its_number_itself_or_from_patience(capsys) -> None:
    assert "early_stop" not in resolved(capsys, "-m", CLASSIFIER)
    for words, number in (
        (("--early-stop", "3"), 3), (("--early-stop",), 5), (("--early-stop", "--patience", "7"), 7), (("--patience=7",), 7),
        (("--early-stop", "--epochs", "9"), 5), (("--set", "early_stop=4"), 4), (("--early-stop", "6", "--patience", "6"), 6),
    ):  # fmt: skip
        assert resolved(capsys, "-m", CLASSIFIER, *words)["early_stop"] == number, words
    code, said = refused(capsys, "-m", CLASSIFIER, "--data", "x", "--early-stop", "6", "--patience", "5")
    assert (code, "contradict" in said) == (2, True)


def test_settings_of_a_training_step(capsys, tmp_path: Path) -> None:
    from cvtool.train import recipe, steps

    for name in steps.names():
        assert not set(steps.settings(name)) & set(recipe.DEFAULTS), name
    with_step = next(name for name in steps.names() if steps.settings(name))
    key, default = next((k, v) for k, v in steps.settings(with_step).items() if isinstance(v, (int, float)) and not isinstance(v, bool))
    option = f"--{key.replace('_', '-')}"
    found = resolved(capsys, "-m", CLASSIFIER, "--set", f"step={with_step}", option, default * 2)
    assert found[key] == default * 2
    assert resolved(capsys, "-m", CLASSIFIER, "--set", f"step={with_step}")[key] == default
    file = tmp_path / "recipe.toml"
    file.write_text(recipe.toml(found))
    assert resolved(capsys, "-c", file)[key] == default * 2
    assert recipe.Plan.read(file).recipe[key] == default * 2
    code, said = refused(capsys, "-m", CLASSIFIER, "--data", "x", option, default)
    assert (code, f"--set step={with_step}" in said) == (2, True)
    code, said = refused(capsys, "-m", CLASSIFIER, "--data", "x", "--set", f"{key}={default}")
    assert (code, "has no effect here" in said) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--momentum", "0.5", "--optimizer", "adamw"], "momentum has no effect with adamw"),
        (["--no-debias", "--optimizer", "sgd"], "debias has no effect with sgd"),
        (["--final-epochs", "3"], "--final-epochs has no effect without --final-res"),
        (["--label-smoothing", "1"], "label_smoothing is below 1"),
        (["--set", "dropout=-0.5"], "dropout is at least 0"),
        (["--layer-decay", "0"], "layer_decay is above 0"),
        (["--initializer", "hee"], "did you mean he"),
        (["--preprocess", "meen"], "did you mean mean"),
        (["--balance", "clases"], "did you mean classes"),
        (["--loss", "dise"], "did you mean dice"),
        (["--device", "cuda"], "--device cuda"),
    ],
)
def test_settings_that_cannot_be(capsys, tmp_path: Path, words: list[str], said: str) -> None:
    import torch

    if words[0] == "--device" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    code, text = refused(capsys, "-m", CLASSIFIER, "--data", tmp_path, "-o", tmp_path / "runs", *words)
    assert said in text
    assert code == (4 if words[0] == "--device" else 2)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("model", "words", "said"),
    [
        (CLASSIFIER, ["--early-stop"], "--early-stop has no effect: there is nothing to validate on"),
        (CLASSIFIER, ["--schedule", "plateau"], "goes by validations"),
        (CLASSIFIER, ["--drop-path", "0.5"], "--drop-path has no effect on"),
        (CLASSIFIER, ["--balance", "repeat:0.1"], "repeat is for pictures of objects"),
        (CLASSIFIER, ["--balance", "loss", "--loss", "focal"], "balance=loss weighs the cross-entropy"),
        (MODEL, ["--loss", "focal"], "--loss has no effect on it"),
        (MODEL, ["--label-smoothing", "0.1"], "--label-smoothing has no effect"),
        (MODEL, ["--dropout", "0.1"], "--dropout has no effect"),
        (MODEL, ["--balance", "loss"], "balance: loss is for classes of pictures or pixels"),
    ],
)
def test_options_without_effect_on_the_model_or_the_data(capsys, drawn: Path, tmp_path: Path, model: str, words: list[str], said: str) -> None:
    data = labelled(tmp_path / "data") if model == CLASSIFIER else drawn
    code, text = refused(capsys, "-m", model, "--data", data, "-o", tmp_path / "runs", *words)
    assert said in text
    assert code == 2
    assert not (tmp_path / "runs").exists()


@pytest.mark.system("early-stopping")
def test_early_stop_restores_the_best(capsys, tmp_path: Path) -> None:
    """A network that learns its pictures by heart while others, labelled at random, get worse."""
    import json
    import shutil

    import torch

    from cvtool import weights

    train, val = labelled(tmp_path / "train"), labelled(tmp_path / "val")
    for i in range(4):  # the labels of half of them are exchanged: what is learned well there is wrong
        a, b = val / f"class0/{i}.png", val / f"class1/{i}.png"
        if i % 2:
            shutil.move(a, tmp_path / "t.png"), shutil.move(b, a), shutil.move(tmp_path / "t.png", b)
    words = ("-m", CLASSIFIER, "--data", train, "--data-val", val, "--epochs", "60", "--augment", "none", "-b", "8", "--lr", "0.01")
    code = main(["train", *map(str, words), "--early-stop", "--patience", "5", "-o", str(tmp_path / "runs")])
    said = capsys.readouterr()
    assert code == 0, said.err
    run = Path(said.out.strip())
    epochs = [line for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if line["kind"] == "epoch"]
    assert len(epochs) < 60
    best = max(range(len(epochs)), key=lambda i: (epochs[i]["val_accuracy"], -i))
    assert len(epochs) == best + 1 + 5
    assert epochs[-1]["loss"] <= epochs[best]["loss"]  # it went on learning
    assert epochs[-1]["val_loss"] > epochs[best]["val_loss"]
    assert f"stopped early: 5 validations were no better than that of epoch {best + 1}" in said.err
    assert "(overfitting)" in said.err
    ours, theirs = weights.read_tensors(run / "model.safetensors"), weights.read_tensors(run / "best.safetensors")
    last = weights.read_tensors(run / "last.safetensors")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert any(not torch.equal(ours[key], last[key]) for key in last)
    assert weights.read_info(run).metrics["epoch"] == best + 1
    assert main(["train", "--resume", str(run), "--epochs", "60"]) == 0  # it is over
    assert len((run / "log.jsonl").read_text().splitlines()) == len(epochs) * 2
    assert main(["train", "--resume", str(run), "--early-stop", "7"]) == 0
    assert (run / "log.jsonl").read_text().count('"kind": "epoch"') >= best + 1 + 7
    capsys.readouterr()


@pytest.mark.system("data-split")
def test_a_rate_is_found_and_nothing_is_trained(capsys, tmp_path: Path) -> None:
    from PIL import Image

    data = labelled(tmp_path / "data")
    code = main(["train", "-m", CLASSIFIER, "--data", str(data), "--find-lr", "--steps", "60", "-b", "8", "-o", str(tmp_path / "runs")])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert 1e-5 < float(said.out) < 10
    assert "the loss falls fastest at" in said.err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["lr-finder.png"]
    assert Image.open(tmp_path / "runs/lr-finder.png").width > 300
    code, text = refused(capsys, "-m", CLASSIFIER, "--data", data, "--find-lr", "--tensorboard")
    assert (code, "--tensorboard has no effect with --find-lr" in text) == (2, True)


def test_a_range_test_leaves_the_weights_alone(tmp_path: Path) -> None:
    import torch

    from cvtool.tasks import train as task
    from cvtool.tasks._job import Job

    job = Job(task.plan(CLASSIFIER, labelled(tmp_path / "data"), layers=[{"batch_size": 4}]), device="cpu", workers=0, reporter=None)
    job.build(offline=True)
    before = {key: value.clone() for key, value in job.model.state_dict().items()}
    state = torch.get_rng_state()
    found = job.find_lr(20)
    assert 2 < len(found.rates) <= 20
    assert all(torch.equal(value, before[key]) for key, value in job.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not job.step.optimizer.state_dict()["state"]


def test_tensorboard(capsys, tmp_path: Path, monkeypatch) -> None:
    import types

    data = labelled(tmp_path / "data")
    words = ["train", "-m", CLASSIFIER, "--data", str(data), "--split", "50,50", "--epochs", "2", "--statistics", "1", "--tensorboard"]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert main([*words, "-o", str(tmp_path / "none")]) == 5
    assert "pip install 'cvtool[tensorboard]'" in capsys.readouterr().err
    written: list[tuple] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int | None) -> None:
            written.append(("made", folder, purge_step))

        def add_scalar(self, name: str, value: float, turn: int) -> None:
            written.append((name, value, turn))

        def close(self) -> None:
            written.append(("closed",))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    assert main([*words, "-o", str(tmp_path / "runs")]) == 0
    run = Path(capsys.readouterr().out.strip())
    assert written[0] == ("made", str(run / "tensorboard"), None)
    assert written[-1] == ("closed",)
    names = {entry[0] for entry in written}
    assert {"train/loss", "train/lr", "val/accuracy", "val/loss"} <= names
    assert any(name.startswith("gradient/") for name in names)
    assert main(["train", "--resume", str(run), "--epochs", "3", "--tensorboard"]) == 0
    assert ("made", str(run / "tensorboard"), 3) in written
