"""Training with augmentations of every kind: the same run for a seed, and refused where a mixture means nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvtool.errors import UsageError
from cvtool.tasks.train import train

EVERYTHING = "flip,shift:4,randaugment:2,9,erasing:0.5,mixup:0.2,cutmix:1,repeated:2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of eight pictures: bright and dark."""
    root = tmp_path_factory.mktemp("classes")
    draw = np.random.default_rng(0)
    for name, level in (("bright", 200), ("dark", 40)):
        (root / name).mkdir()
        for i in range(8):
            Image.fromarray((level + draw.integers(-30, 30, (32, 32, 3))).astype(np.uint8)).save(root / name / f"{i}.png")
    return root


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines() if json.loads(line)["kind"] == "epoch"]


@pytest.mark.system("mixup")
@pytest.mark.system("cutmix")
@pytest.mark.system("random-erasing")
@pytest.mark.system("randaugment")
@pytest.mark.system("repeated-aug")
def test_seeded_runs_are_identical(folder: Path, tmp_path: Path) -> None:
    options = {"output": tmp_path, "device": "cpu"}
    layers = [{"augment": EVERYTHING, "batch_size": 8, "epochs": 2, "warmup": 0.0}]
    one, other = (losses(train("resnet.tiny", folder, layers=layers, **options)) for _ in range(2))
    assert len(one) == 2
    assert one == other
    assert all(np.isfinite(one))
    plain = losses(train("resnet.tiny", folder, layers=[layers[0] | {"augment": "none"}], **options))
    assert plain != one
    seeded = losses(train("resnet.tiny", folder, layers=[layers[0] | {"seed": 1}], **options))
    assert seeded != one


def test_a_wrong_name_or_argument_stops_a_run_before_it_starts(folder: Path, tmp_path: Path) -> None:
    for text, said in (("mixap", "did you mean mixup"), ("rotate:-3", "degrees"), ("v2:Nothing", "torchvision has no")):
        with pytest.raises(UsageError, match=said):
            train("resnet.tiny", folder, output=tmp_path / "none", layers=[{"augment": text}])
    assert not (tmp_path / "none").exists()
