"""The last epochs at another size: weights that they have made worse are not the run's best."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.tasks import chain
from cvtool.tasks import train as task
from cvtool.train.log import Reporter


class Notes(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def levels(root: Path, count: int = 6) -> Path:
    draw = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        for i in range(count):
            file = root / ("train" if i < count - 2 else "val") / name / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.normal(level, 20, (32, 32, 3)).clip(0, 255).astype(np.uint8)).save(file)
    return root


@pytest.mark.parametrize("spoiled", [True, False])
def test_the_better_of_before_and_after_is_kept_and_named(tmp_path: Path, monkeypatch, spoiled: bool) -> None:
    if spoiled:
        monkeypatch.setattr(chain, "FINAL_RATE", 3000.0)
    notes = Notes()
    settings = {"epochs": 3, "batch_size": 4, "augment": "none", "lr": 5e-3, "final_res": 48, "final_epochs": 1, "clip": 0.0}
    last = task.train("resnet.tiny", levels(tmp_path / "data"), output=tmp_path / "runs", device="cpu", layers=[settings], reporter=notes)
    assert last.name == "0002"
    lines = [json.loads(line) for line in (last / "log.jsonl").read_text().splitlines()]
    (start,) = [line for line in lines if line["kind"] == "start"]
    (end,) = [line for line in lines if line["kind"] == "epoch" and "stage" not in line]
    before, after = start["val_accuracy"], end["val_accuracy"]
    ours, first = weights.read_tensors(last / "model.safetensors"), weights.read_tensors(tmp_path / "runs/0001/model.safetensors")
    assert any(note.startswith("before at 48 pixels: val_accuracy") for note in notes.said)
    assert weights.load(str(last))[0].prepare.size == 48
    unchanged = all(torch.equal(ours[key], first[key]) for key in first)
    if spoiled:
        assert after < before
        assert unchanged
        assert weights.read_info(last).metrics["epoch"] == 0
        assert f"best: the weights that it started from, val_accuracy {before:.4f}; training made them worse (val_accuracy {after:.4f})" in notes.said
    else:
        assert after >= before  # as good is good enough: it was asked for
        assert not unchanged
        assert weights.read_info(last).metrics["epoch"] == 1
    assert task.resume(last, device="cpu") == last
    assert all(torch.equal(value, ours[key]) for key, value in weights.read_tensors(last / "model.safetensors").items())
