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
    from cvtool.data.augment import AUGMENTATIONS
    from cvtool.train import optim, schedule

    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert ", ".join(AUGMENTATIONS) in text
    assert all(name in text for name in (*optim.OPTIMIZERS, *schedule.NAMES))


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
