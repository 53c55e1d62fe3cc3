"""Pictures learned from pictures alone; what the encoder learned goes on in a classifier."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.errors import InputError, UsageError
from cvtool.tasks import train as task


def built(**changes):
    torch.manual_seed(0)
    return weights.build("autoencoder.tiny", categories=[], **changes)


@pytest.fixture
def photos(png, tmp_path):
    """A plain folder of twelve pictures."""
    for i in range(12):
        png(f"photos/{i}.png", 40, 30, seed=i)
    return tmp_path / "photos"


def trained(reference, data, tmp_path, **settings):
    run = task.train(reference, data, output=tmp_path / "runs", device="cpu", layers=[settings])
    return run, [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.system("autoencoder")
def test_the_code_is_smaller_than_the_picture():
    model = built()
    pictures = torch.rand(2, 3, 32, 32)
    codes = model.encode(pictures)
    assert codes.shape == (2, 16)
    made = model.decode(codes)
    assert made.shape == pictures.shape
    assert 0 <= made.min() <= made.max() <= 1
    assert torch.equal(model.eval()(pictures), model.decode(model.encode(pictures)))
    with pytest.raises(UsageError, match="code of 3072"):
        built(dimensions=3072)
    with pytest.raises(UsageError, match="halved"):
        built(image_size=30)


@pytest.mark.system("autoencoder")
def test_it_draws_faces_nearer_than_pca_of_as_many_dimensions(data):
    paths = sorted((data / "faces_orl").glob("s*/1.pgm"))[:12]
    pictures = torch.from_numpy(np.stack([np.array(Image.open(path).convert("RGB").resize((16, 16))) for path in paths]))
    pictures = pictures.permute(0, 3, 1, 2).float() / 255
    flat = pictures.flatten(1)
    centred = flat - flat.mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
    pca = (centred - centred @ axes.T @ axes).square().mean()
    model = built(image_size=16, width=8, dimensions=2).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    turns = 120
    for turn in range(turns):
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1, 2 * (1 - turn / turns))
        optimizer.zero_grad()
        (model(pictures) - pictures).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        assert (model.eval()(pictures) - pictures).square().mean() < pca


def test_it_learns_from_a_plain_folder(photos, tmp_path):
    run = task.train("autoencoder.tiny", photos, output=tmp_path / "runs", device="cpu", split="75,25", layers=[{"epochs": 4, "batch_size": 3}])
    lines = [line for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if line["kind"] == "epoch"]
    assert lines[-1]["l2"] < lines[0]["l2"]
    assert "val_l2" in lines[-1]
    assert not any("accuracy" in key or "AP" in key for key in lines[-1])
    loaded, info = weights.load(str(run))
    assert info.categories == []
    assert loaded.embed(loaded.prepare([np.zeros((9, 9, 3), np.uint8)])).shape == (1, 16)
    with pytest.raises(InputError, match="no categories"):
        trained("simple-cnn.tiny", photos, tmp_path)


@pytest.mark.system("autoencoder")
def test_it_learns_by_either_distance(photos, tmp_path):
    for loss in ("l1", "l2"):
        _, lines = trained("autoencoder.tiny", photos, tmp_path, epochs=3, batch_size=4, loss=loss)
        epochs = [line for line in lines if line["kind"] == "epoch"]
        assert epochs[-1][loss] < epochs[0][loss]


@pytest.mark.system("autoencoder")
def test_an_adversary_of_pictures_and_codes(photos, tmp_path):
    """Pairs (x, E(x)) against (G(z), z): the losses by hand, and a run with all of them in its log."""
    from cvtool.train import recipe as recipes
    from cvtool.train import steps

    model = built(image_size=16, dimensions=4)
    step = steps.make(model, recipes.resolve({"step": "joint-adversarial", "joint_width": 4, "joint_weight": 0.5, "weight_decay": 0.0}))
    batch = model.eval().prepare([np.full((16, 16, 3), value, np.uint8) for value in (20, 120, 220)])
    torch.manual_seed(5)
    found = step.deceiving(batch)
    torch.manual_seed(5)
    z, codes = torch.randn(3, 4), model.encode(batch.images)
    told = step.discriminator(batch.images, codes), step.discriminator(model.decode(z), z)
    torch.testing.assert_close(found["l2"], (model(batch.images) - batch.images).square().mean())
    torch.testing.assert_close(found["joint"], 0.5 * (torch.nn.functional.softplus(told[0]).mean() + torch.nn.functional.softplus(-told[1]).mean()))
    other = step.telling(batch)
    torch.testing.assert_close(other["d_data"], torch.nn.functional.softplus(-told[0]).mean())
    torch.testing.assert_close(other["d_drawn"], torch.nn.functional.softplus(told[1]).mean())
    found["joint"].backward()
    assert model.net.code.weight.grad.abs().sum() > 0
    assert model.decoder.open[0].weight.grad.abs().sum() > 0
    _, lines = trained("autoencoder.tiny", photos, tmp_path, epochs=2, batch_size=4, step="joint-adversarial", joint_width=4)
    assert all(lines[-1][key] > 0 for key in ("l2", "joint", "d_data", "d_drawn"))
    with pytest.raises(UsageError, match="encoder and a decoder"):
        steps.make(weights.build("simclr.tiny", categories=[]), recipes.resolve({"step": "joint-adversarial"}))


def test_it_passes_over_the_truth_of_other_data(tmp_path):
    from cvtool.data import synth

    boxes = synth.write_shapes(tmp_path / "boxes", 6, 40)
    _, lines = trained("autoencoder.tiny", boxes, tmp_path, epochs=1, batch_size=3)
    assert lines[-1]["l2"] > 0


@pytest.mark.system("rec-adv")
def test_reconstruction_and_an_adversary(photos, tmp_path):
    """Each term in the log, two networks in turns; with weight 0 the plain loss to the bit."""
    common = {"epochs": 2, "batch_size": 4}
    small = {"discriminator_width": 8, "discriminator_layers": 1}
    run, lines = trained("autoencoder.tiny", photos, tmp_path, loss="l1:1,adv:0.01", **small, **common)
    last = lines[-1]
    assert all(last[key] > 0 for key in ("l1", "adversarial", "d_real", "d_made"))
    assert 'step = "adversarial"' in (run / "recipe.toml").read_text()
    without, zero = trained("autoencoder.tiny", photos, tmp_path, loss="l1:1,adv:0", **small, **common)
    plain, lines = trained("autoencoder.tiny", photos, tmp_path, loss="l1", **common)
    assert lines[-1]["l1"] == zero[-1]["l1"]
    states = [weights.load(str(one))[0].state_dict() for one in (plain, without, run)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert not all(torch.equal(value, states[2][key]) for key, value in states[0].items())


@pytest.mark.system("perceptual")
def test_what_a_trained_network_sees_in_it(photos, tmp_path):
    from cvtool.categories import numbered

    torch.manual_seed(0)
    judge = weights.build("vgg.tiny", categories=numbered(4))
    path = weights.save(judge, tmp_path / "vgg.safetensors", weights.Info(reference="vgg.tiny", categories=judge.categories, prepare=judge.prepare))
    loss = f"l1+0.1*perceptual:net={path},layer=relu1_1/relu2_1"
    _, lines = trained("autoencoder.tiny", photos, tmp_path, epochs=2, batch_size=4, loss=loss)
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert epochs[-1]["perceptual"] > 0
    assert epochs[-1]["loss"] == pytest.approx(epochs[-1]["l1"] + epochs[-1]["perceptual"])
    assert epochs[-1]["loss"] < epochs[0]["loss"]


# ---- going on with the encoder -------------------------------------------------------------------------------------


@pytest.fixture
def digits(tmp_path):
    """Handwritten digits of scikit-learn: 400 without labels, 20 of them (5 %) with, and 150 others to validate on."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    taken = dict.fromkeys(range(10), 0)
    for place, index in enumerate(order[:550]):
        picture = Image.fromarray((found.images[index] * 255 / 16).astype(np.uint8)).resize((16, 16))
        digit = int(found.target[index])
        if place >= 400:
            folders = [f"labelled/val/{digit}"]
        else:
            folders = ["all"]
            if taken[digit] < 2:
                taken[digit] += 1
                folders.append(f"labelled/train/{digit}")
        for name in folders:
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
            picture.save(tmp_path / name / f"{index}.png")
    return tmp_path


@pytest.mark.system("ae-pretrain")
def test_a_classifier_goes_on_with_the_encoder(digits, tmp_path, record_property):
    """Copied to the bit, the decoder dropped; with 5 % of the labels the accuracy of both starts stands in their logs."""
    shape = {"image_size": 16, "width": 16}
    before, _ = trained("autoencoder.tiny", digits / "all", tmp_path, epochs=4, batch_size=50, augment="none", **shape)
    start = weights.load(str(before))[0].state_dict()
    notes: list[str] = []

    class Listening(task.Reporter):
        def note(self, text):
            notes.append(text)

    fine = {"epochs": 25, "batch_size": 20, "augment": "none", "val_every": 25, "lr": 3e-3, **shape}
    options = {"output": tmp_path / "runs", "device": "cpu", "reporter": Listening()}
    frozen = task.train("simple-cnn.tiny", digits / "labelled", layers=[fine | {"epochs": 1, "lr": 0.0, "init": str(before)}], **options)
    taken = weights.load(str(frozen))[0].state_dict()
    copied = [key for key in start if key.startswith("net.blocks.") and not re.search(r"running|num_batches", key)]
    assert len(copied) == 6
    assert all(torch.equal(start[key], taken[key]) for key in copied)
    assert not any("decoder" in key or "code" in key for key in taken)
    assert any(note.startswith("starting from autoencoder.tiny") for note in notes)

    accuracy = {}
    for name, init in (("pretrained", str(before)), ("random", "")):
        run = task.train("simple-cnn.tiny", digits / "labelled", layers=[fine | ({"init": init} if init else {})], **options)
        accuracy[name] = weights.read_info(run).metrics["val_accuracy"]
        record_property(f"accuracy with 5 % of the labels, {name}", accuracy[name])
    assert min(accuracy.values()) > 0.25
