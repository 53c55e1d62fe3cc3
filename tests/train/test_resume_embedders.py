"""Embedders trained by the command, stopped inside an epoch and gone on with: log and weights of a run that nobody disturbed, bit for bit."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.cli import command
from cvtool.errors import Terminated
from cvtool.train.log import TIMES, Reporter

CASES = {
    "siamese": ("siamese.tiny", "loss=triplet:margin=0.2", "miner=staged:1"),  # batches of classes by pictures, a miner that changes with the epoch
    "tree": ("siamese.tiny", "loss=hierarchical-triplet", "normalize=true", "images_per_class=2", "neighbourhood=2"),
    "ensemble": ("embedding-ensemble.tiny", "images_per_class=2", "recluster=2", "joint_epochs=1"),
    "simclr": ("simclr.tiny", "bank=20", "ema=0.9"),  # random views, a queue, a moving average
    "byol": ("byol.tiny",),
}


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of five noisy pictures."""
    root, rng = tmp_path_factory.mktemp("shades"), np.random.default_rng(0)
    for label in range(4):
        (root / str(label)).mkdir()
        for number in range(5):
            noisy = 60 * label + rng.integers(0, 40, (16, 16, 3))
            Image.fromarray(noisy.astype(np.uint8)).save(root / str(label) / f"{number}.png")
    return root


def diary(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


class Stop(Reporter):
    """Asks its own process to end in the second of the second epoch's three turns."""

    def turn(self, *, turn: int, **values: object) -> None:
        if turn == 5:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("name", CASES)
def test_stopped_inside_an_epoch_it_ends_the_same(name: str, shades: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, *settings = CASES[name]
    words = ["-m", model, "--data", str(shades), "--epochs", "3", "-b", "8", "--device", "cpu", "-q"]
    words += [word for text in settings for word in ("--set", text)]

    def run(*more: object) -> None:
        command("train").main([*map(str, more)], standalone_mode=False)

    run(*words, "-o", tmp_path / "whole")

    with monkeypatch.context() as patch:
        patch.setattr("cvtool.cli.train.reporter", lambda console: Stop())
        with pytest.raises(Terminated):
            run(*words, "-o", tmp_path / "cut")
    cut, whole = tmp_path / "cut" / "0001", tmp_path / "whole" / "0001"
    assert diary(cut)[-1]["iteration"] == 3
    run("--resume", cut, "--device", "cpu", "-q")
    assert diary(cut) == diary(whole)
    assert diary(whole)[-1]["iteration"] == 9
    ours, theirs = (weights.read_tensors(each / "last.safetensors") for each in (cut, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
