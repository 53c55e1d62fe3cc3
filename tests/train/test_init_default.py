"""A model with published weights starts from them, if they can be had."""

import tomllib

import numpy as np
import pytest
from PIL import Image

from cvtool.__main__ import main
from cvtool.tasks import _start
from cvtool.tasks import train as task


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for label, level in (("dark", 50), ("light", 200)):
        for i in range(3):
            file = tmp_path / "data" / label / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.normal(level, 20, (32, 32, 3)).clip(0, 255).astype(np.uint8)).save(file)
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("model", "init"),
    [
        ("resnet18", "resnet.18@imagenet"), ("resnet18@none", ""), ("resnet.tiny", ""), ("timm:resnet18", "timm:resnet18"),
        ("timm:resnet18@none", ""), ("torchvision:resnet18", "torchvision:resnet18"),
    ],
)  # fmt: skip
def test_what_a_plan_starts_from(model, init, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was used"))
    planned = task.plan(model, None)
    assert (planned.recipe["init"], planned.by_default) == (init, bool(init))
    assert tomllib.loads(planned.to_toml()).get("init", "") == init


def test_whoever_says_where_to_start_is_heard():
    assert task.plan("resnet18", None, layers=[{"init": "runs/0003"}]).recipe["init"] == "runs/0003"
    assert task.plan("resnet18", None, layers=[{"init": ""}]).recipe["init"] == ""
    assert task.plan("resnet18", None, layers=[{"initializer": "he"}]).recipe["init"] == ""


def test_without_the_weights_it_trains_from_scratch_and_says_so(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    planned = task.plan("squeezenet", folder)
    words = ["-m", planned.model, "--data", folder, "-o", tmp_path / "runs", "--steps", 1, "-b", 2, "--img-size", 64, "--device", "cpu", "--offline"]
    assert main(["train", *map(str, words)]) == 0
    said = capsys.readouterr()
    assert f"`cvtool models pull {planned.recipe['init']}`" in said.err
    recipe = tomllib.loads((tmp_path / "runs" / "0001" / "recipe.toml").read_text())
    assert recipe["init"] == ""
    assert main(["train", *map(str, words), "--init", planned.recipe["init"]]) == 4  # asked for by name


def test_as_many_classes_of_other_names_get_a_fresh_head():
    assert _start._other_classes([{"id": 1, "name": "a"}], [{"id": 1, "name": "b"}])
    assert not _start._other_classes([{"id": 7, "name": "a"}], [{"id": 1, "name": "a"}])
    assert not _start._other_classes([{"id": 1, "name": "a"}], [])
