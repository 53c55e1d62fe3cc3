"""The options of optimisers, starts, regularisers and preprocessing from the command line, on a handful of real files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.__main__ import main
from cvtool.train.loop import Loop

SIDE = 32


@pytest.fixture(scope="module")
def flowers(tmp_path_factory) -> Path:
    """Two class folders of five pictures for training, and brighter ones to validate on."""
    folder = tmp_path_factory.mktemp("flowers")
    rng = np.random.default_rng(0)
    for split, count, add in (("train", 5, 0), ("val", 2, 90)):
        for i, name in enumerate(("daisy", "rose")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(20 + 60 * i, 90 + 60 * i, (SIDE, SIDE, 3)) + add
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / split / name / f"{number}.png")
    return folder


@pytest.fixture
def trained(flowers, tmp_path, capsys):
    """`trained("--l1", 0.1)`: a run's folder, its log's epochs and its other lines; `code` is what it should end with."""

    def run(*words: object, code: int = 0, steps: int = 4):
        more = ["--data", flowers, "-o", tmp_path, "--steps", steps, "-b", 4, "--seed", 0, "-q", "--device", "cpu"]
        got = main(["train", "-m", "resnet.tiny", *map(str, [*more, *words])])
        said = capsys.readouterr()
        assert got == code, said.err
        if code:
            return said.err
        folder = Path(said.out.strip())
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return folder, [line for line in lines if line["kind"] == "epoch"], [line for line in lines if line["kind"] == "statistics"]

    return run


def state(folder: Path) -> dict[str, torch.Tensor]:
    return weights.read_tensors(folder / "last.safetensors")


def pictures(folder: Path) -> torch.Tensor:
    """B 3 H W float64 in [0, 1]."""
    every = [np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))]
    return torch.from_numpy(np.stack(every)).permute(0, 3, 1, 2).double() / 255


@pytest.mark.system("mean-subtract")
def test_the_mean_image_is_that_of_the_training_split_and_goes_with_the_checkpoint(trained, flowers, capsys):
    folder, _, _ = trained("--preprocess", "mean:image")
    prepare = weights.load(str(folder))[0].prepare
    train, val = pictures(flowers / "train"), pictures(flowers / "val")
    assert torch.allclose(prepare.table.mean.double(), train.mean(0), atol=1e-6)
    after = prepare([(p * 255).permute(1, 2, 0).round().to(torch.uint8) for p in train]).images.double()
    assert after.mean(0).abs().max() < 1e-5
    after = prepare([(p * 255).permute(1, 2, 0).round().to(torch.uint8) for p in val]).images.double()
    assert torch.allclose(after, val - train.mean(0), atol=1e-5)
    assert main(["classify", str(next((flowers / "val").rglob("*.png"))), "-m", str(folder), "-f", "jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"]
    said = trained("--preprocess", "mean:imge", code=2)
    assert "channel, image, scalar" in said
    said = trained("--preprocess", "standardise", code=2)
    assert "did you mean standardize" in said


@pytest.mark.system("adam")
def test_no_debias_differs(trained):
    with_it, _, _ = trained("--optimizer", "adam")
    without, _, _ = trained("--optimizer", "adam", "--no-debias")
    other, _, _ = trained("--optimizer", "adam:debias=false")
    assert not torch.equal(state(with_it)["net.fc.weight"], state(without)["net.fc.weight"])
    assert all(torch.equal(value, state(other)[key]) for key, value in state(without).items())
    assert "debias has no effect with sgd" in trained("--optimizer", "sgd", "--no-debias", code=2)


@pytest.mark.system("newton")
def test_newton_is_refused_for_a_network(trained):
    said = trained("--optimizer", "newton", code=2)
    assert "newton keeps the curvature of every pair of weights" in said
    assert "adamw" in said


@pytest.mark.system("newton")
def test_the_loop_gives_newton_its_curvature(make_loop, toys):
    """A linear classifier on twelve pictures: the loss of softmax regression, with its flat directions."""
    loop: Loop = make_loop(optimizer="newton:damping=0.01", lr=1.0, epochs=4, loader=toys.Pictures(batch_size=12), clip=0.0)
    loop.run()
    losses = [values["class"] for values, _ in loop.keeper.epochs]
    assert losses[-1] < 0.2 * losses[0]
    slow = make_loop(optimizer="sgd", lr=0.1, epochs=4, loader=toys.Pictures(batch_size=12), clip=0.0)
    slow.run()
    assert losses[-1] < 0.5 * slow.keeper.epochs[-1][0]["class"]


@pytest.mark.system("sgd")
def test_an_epoch_is_every_picture_once_in_a_new_order_and_as_many_turns_as_batches(make_loop, toys):
    from cvtool.data import synth
    from cvtool.data.dataset import Dataset
    from cvtool.data.loader import Loader

    loader = Loader(Dataset(synth.shapes(10, 32), synth.CATEGORIES), lambda *given, **more: None, batch_size=4)
    first, second = loader.plan(0), loader.plan(1)
    assert first != second
    for plan in (first, second):
        assert [len(batch) for batch in plan] == [4, 4, 2]  # the last partial batch too
        assert sorted(index for batch in plan for index in batch) == list(range(10))
    loop = make_loop(loader=toys.Pictures(10, 4), epochs=3, optimizer="sgd", lr=0.1)
    assert loop.run().turn == 3 * 3  # ceil(N / B) an epoch, and not one more


@pytest.mark.system("l1-reg")
def test_the_report_shows_weights_getting_small(trained):
    shares = []
    for alpha in (0.0, 0.05):
        _, epochs, lines = trained("--l1", alpha, "--statistics", 1, "--set", "clip=0", "--optimizer", "sgd", "--lr", 0.01, steps=8)
        assert ("l1" in epochs[-1]) == bool(alpha)
        shares.append(lines[-1]["small_weights"])
        assert lines[-1]["squared_norm"] > 0
    assert shares[1] > 1.5 * shares[0]


@pytest.mark.system("input-noise")
def test_noise_is_for_training_only(trained, flowers):
    plain, before, _ = trained("--optimizer", "sgd", "--lr", 0.0, "--set", "ema=0", steps=3)
    noisy, after, _ = trained("--optimizer", "sgd", "--lr", 0.0, "--input-noise", 0.05, steps=3)
    assert before[-1]["loss"] != after[-1]["loss"]
    one, other = (weights.load(str(folder))[0] for folder in (plain, noisy))
    batch = one.prepare([np.asarray(Image.open(path)) for path in sorted((flowers / "val").rglob("*.png"))])
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(batch.images), other(batch.images))
    assert torch.equal(other(batch.images), other(batch.images))


@pytest.mark.system("naive-init")
@pytest.mark.system("relu")
def test_the_start_is_the_options(trained):
    folder, _, _ = trained("--initializer", "zeros", "--init-bias", 0.01, "--lr", 0.0, "--optimizer", "sgd", steps=1)
    found = state(folder)
    assert not found["net.conv1.weight"].any()
    assert torch.equal(found["net.fc.bias"], torch.full((2,), 0.01))
    assert "did you mean he" in trained("--initializer", "hee", code=2)


@pytest.mark.system("dropout")
@pytest.mark.system("stochastic-depth")
@pytest.mark.system("spectral-norm")
def test_what_regularises_is_set_up_or_refused(trained):
    folder, _, _ = trained("--drop-path", 0.5, "--spectral-norm", "--label-smoothing", 0.1, steps=3)
    model, _ = weights.load(str(folder))
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            assert float(torch.linalg.matrix_norm(module.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.05), name
    assert "--dropout has no effect on resnet.tiny" in trained("--dropout", 0.1, code=2)
    recipe = (folder / "recipe.toml").read_text()
    assert "drop_path = 0.5" in recipe
    assert "spectral_norm = true" in recipe


def test_schedules_and_foreign_optimizers_run(trained):
    trained("--optimizer", "timm:lamb", "--schedule", "poly:2", steps=2)
    folder, _, _ = trained("--optimizer", "nesterov:form=lookahead", "--schedule", "plateau:patience=0,factor=0.5", steps=6)
    assert main(["train", "--resume", str(folder), "--set", "steps=8", "-q", "--device", "cpu"]) == 0
    assert "watches val_los" in trained("--schedule", "plateau:watch=val_los", code=1)
