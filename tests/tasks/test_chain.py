"""Trainings in several stages: one log, resumed where they were stopped; and a higher resolution at the end."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvtool import weights
from cvtool.__main__ import main
from cvtool.tasks import chain
from cvtool.tasks import train as task
from cvtool.train.log import before
from cvtool.train.run import Run


def folder_of(path: Path, classes: dict[str, int], *, side: int = 32, count: int = 6) -> Path:
    """Class folders of pictures of different brightness, with parts to learn from and to validate on."""
    rng = np.random.default_rng(0)
    for label, level in classes.items():
        for i in range(count + 4):
            file = path / ("train" if i < count else "val") / label / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.normal(level, 20, (side, side, 3)).clip(0, 255).astype(np.uint8)).save(file)
    return path


@pytest.fixture
def real(tmp_path):
    return folder_of(tmp_path / "real", {"dark": 50, "grey": 120, "light": 200})


@pytest.fixture
def synthetic(tmp_path):
    return folder_of(tmp_path / "synthetic", {"black": 30, "white": 220})


def lines_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.system("synthetic-pretrain")
def test_synthetic_pictures_first_then_real_ones_in_one_log(synthetic, real, tmp_path, capsys):
    words = ["--pretrain-synthetic", synthetic, "--finetune", real, "--epochs", 1, "-b", 4, "-o", tmp_path / "runs", "--device", "cpu"]
    assert main(["train", "-m", "resnet.tiny", *map(str, words)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "runs" / "0002")
    first, last = tmp_path / "runs" / "0001", tmp_path / "runs" / "0002"
    assert "starting from" in said.err
    lines = lines_of(last)
    marked = [line.get("stage") for line in lines]
    count = marked.count("pretrain-synthetic")
    assert count == len(lines_of(first)) > 0
    assert marked == ["pretrain-synthetic"] * count + [None] * (len(lines) - count)
    assert len(lines) > count
    assert [c["name"] for c in weights.read_info(first).categories] == ["black", "white"]
    assert [c["name"] for c in weights.read_info(last).categories] == ["dark", "grey", "light"]
    start, end = weights.load(str(first))[0].state_dict(), weights.load(str(last))[0].state_dict()
    assert start.keys() == end.keys()
    assert end["net.fc.weight"].shape[0] == 3
    assert Run.open(last)[1].recipe["init"] == str(first)

    again = task.resume(first, device="cpu")  # finished long ago: what follows it is found, not made anew
    assert again == last
    assert lines_of(last)[: len(lines)] == lines
    assert [line for line in lines_of(last) if "stage" in line] == lines[:count]


def test_a_chain_stopped_in_its_first_stage_goes_on_to_the_second(synthetic, real, tmp_path):
    planned = task.plan("resnet.tiny", real, pretrain_synthetic=synthetic, layers=[{"epochs": 1, "batch_size": 4}])
    planned.made = {"folder": str(Path.cwd())}
    first = Run.make(tmp_path / "runs", planned).folder  # killed before its first save
    last = task.resume(first, device="cpu")
    assert last.name == "0002"
    assert {line.get("stage") for line in lines_of(last)} == {"pretrain-synthetic", None}
    assert [c["name"] for c in weights.read_info(last).categories] == ["dark", "grey", "light"]


def test_a_stage_killed_before_its_first_save_keeps_the_lines_before_it(synthetic, real, tmp_path):
    settings = [{"epochs": 1, "batch_size": 4}]
    last = task.train("resnet.tiny", real, output=tmp_path / "runs", device="cpu", pretrain_synthetic=synthetic, layers=settings)
    earlier = [line for line in lines_of(last) if "stage" in line]
    assert before(last / "log.jsonl") == len((last / "log.jsonl").read_bytes().partition(b'{"kind"')[0])
    (last / "state.pt").unlink()
    task.resume(last, device="cpu")
    lines = lines_of(last)
    assert lines[: len(earlier)] == earlier
    assert sum(line["kind"] == "epoch" for line in lines if "stage" not in line) == 1


@pytest.mark.system("fixres")
@pytest.mark.parametrize("model", ["vit.tiny", "resnet.tiny"])
def test_a_last_epoch_at_a_higher_resolution(real, tmp_path, capsys, model):
    size = 96
    words = ["--data", real, "--epochs", 4, "-b", 6, "-o", tmp_path / "runs", "--device", "cpu", "--augment", "none", "--lr", 1e-3]
    assert main(["train", "-m", model, *map(str, words), "--final-res", str(size), "--final-epochs", "1", "-q"]) == 0
    first, last = tmp_path / "runs" / "0001", tmp_path / "runs" / "0002"
    assert capsys.readouterr().out.strip() == str(last)
    recipe = Run.open(last)[1].recipe
    assert (recipe["img_size"], recipe["epochs"], recipe["schedule"]) == (size, 1, "cosine")
    assert recipe["lr"] == pytest.approx(1e-4)
    assert {line.get("stage") for line in lines_of(last)} == {"train", None}
    tuned, _ = weights.load(str(last))
    assert tuned.prepare.size == size
    if model == "vit.tiny":
        assert tuned.net.positions.weight.shape[1] == 1 + 8 * 8  # made for 64 pixels, interpolated to 12 x 12 patches on the way
        assert tuned.net.positions.at((12, 12)).shape[1] == 1 + 12 * 12
    plain, _ = weights.load(str(first))
    plain.prepare = plain.prepare.sized(size)
    assert accuracy(tuned, real) >= accuracy(plain, real)
    assert accuracy(tuned, real) > 0.5


def accuracy(model, real: Path) -> float:
    names = [category["name"] for category in model.categories]
    files = sorted((real / "val").glob("*/*.png"))
    results = model.predict(model.prepare([np.asarray(Image.open(file)) for file in files]))
    return float(np.mean([names[int(result.labels[0])] == file.parent.name for result, file in zip(results, files, strict=True)]))


def test_what_says_nothing_alone_is_refused(real, capsys):
    for words, told in (
        (["--final-res", "96"], "--final-epochs"), (["--final-epochs", "2"], "--final-res"), (["--finetune", str(real)], "--pretrain-synthetic"),
        (["--trials", "3"], "--search"), (["--base", "x"], "--update"),
    ):  # fmt: skip
        data = [] if "--finetune" in words else ["--data", str(real)]
        assert main(["train", "-m", "resnet.tiny", *data, *words]) == 2
        assert told in capsys.readouterr().err


def test_the_stages_of_a_plan(real, synthetic):
    planned = task.plan("resnet.tiny", real, pretrain_synthetic=synthetic, layers=[{"final_res": 64, "final_epochs": 2, "lr_scale": 0.1}])
    assert chain.current(planned).data == {"data": str(synthetic)}
    assert chain.current(planned).recipe["lr_scale"] == 1
    second = chain.following(planned, Path("runs/0001"))
    assert second is not None
    assert second.data == {"data": str(real)}
    assert second.recipe["lr_scale"] == 0.1
    third = chain.following(second, Path("runs/0002"))
    assert third is not None
    assert (third.recipe["img_size"], third.recipe["epochs"], third.made["after"]) == (64, 2, "0002")
    assert chain.following(third, Path("runs/0003")) is None


def test_the_best_of_a_search_and_none_twice(real, tmp_path, capsys):
    words = ["train", "-m", "simple-cnn.tiny", "--data", str(real), "-o", str(tmp_path / "runs"), "--epochs", "1", "--device", "cpu", "-q"]
    words += ["--search", "lr=0.001|0.01", "--trials"]
    assert main([*words, "1"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "runs" / "0001")
    assert main([*words, "2"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "runs" / "search.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    best = max(lines, key=lambda line: line["reward"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "runs" / best["run"])
