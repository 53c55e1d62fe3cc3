"""DDPM: the paper's network and loss, samples that depend on seed and number alone, both guidances, and that it learns real pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from cvtool import weights
from cvtool.batch import Batch
from cvtool.categories import numbered
from cvtool.cli import command
from cvtool.errors import ModelError, UsageError
from cvtool.layers.diffusion_unet import DiffusionUNet
from cvtool.models.generate import ddpm
from cvtool.results import Labels
from cvtool.tasks import repro
from cvtool.tasks import train as task

CLASSES = [{"id": 1, "name": "0"}, {"id": 2, "name": "1"}, {"id": 3, "name": "3"}]


def built(variant="tiny", **changes):
    torch.manual_seed(0)
    model = weights.build(f"ddpm.{variant}", categories=numbered(3), **changes).eval()
    with torch.no_grad():
        model.unet.last.weight.normal_(std=0.05)  # a fresh network says nothing
        for block in model.unet.middle:
            if hasattr(block, "conv2"):
                block.conv2.weight.normal_(std=0.1)
    return model


def batch_of(images, labels=None):
    targets = [Labels(torch.tensor([label])) for label in labels or [0] * len(images)]
    return Batch(images, torch.zeros(len(images), *images.shape[2:], dtype=torch.bool), [None] * len(images), targets)


@pytest.fixture
def go(tmp_path, monkeypatch):
    """`go("-m", ...)` runs `cvtool generate` in this process, in the test's folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        command("generate").main([str(word) for word in words], standalone_mode=False)

    return run


def pixels(*paths):
    return np.stack([np.asarray(Image.open(path)) for path in paths])


@pytest.fixture
def knn(digits):
    """What tells the digits 0, 1 and 3 apart without any network: (labels, mean distance) of pictures N 8 8 3 of 0..255."""
    kept = np.isin(digits.labels, (0, 1, 3))
    found = KNeighborsClassifier(3).fit(digits.pictures[kept].reshape(-1, 64), np.searchsorted((0, 1, 3), digits.labels[kept]))

    def tell(pictures):
        flat = np.asarray(pictures).mean(3).reshape(-1, 64) / 255
        return found.predict(flat), found.kneighbors(flat)[0].mean()

    return tell


# ---- the network and what it learns


@pytest.mark.system("ddpm")
def test_the_networks_are_as_large_as_they_should_be():
    with torch.device("meta"):
        net = DiffusionUNet(3, 3, width=128, multiples=(1, 2, 2, 2), blocks=2, attention=(1,))
    assert sum(p.numel() for p in net.parameters()) == 35_746_307  # the paper: 35.7 M
    assert ddpm.VARIANTS["base"].items() >= {"width": 128, "multiples": [1, 2, 2, 2], "blocks": 2, "attention": [16], "image_size": 32}.items()
    assert sum(p.numel() for p in weights.build("ddpm.small", categories=numbered(3), conditional=True).parameters()) <= 3_000_000


@pytest.mark.system("ddpm")
@pytest.mark.parametrize("predict", ["eps", "v"])
def test_what_is_minimised_is_l_simple(predict):
    model = built(predict=predict, patch=2, attention=[2])
    images = torch.rand(5, 3, 8, 8) * 2 - 1
    torch.manual_seed(3)
    found = model.losses(batch_of(images))
    torch.manual_seed(3)
    t, eps = torch.randint(1, 101, (5,)), torch.randn(5, 3, 8, 8)
    a, s = (x.float().view(-1, 1, 1, 1) for x in (model.schedule.abar[t].sqrt(), (1 - model.schedule.abar[t]).sqrt()))
    x = a * images + s * eps
    said = model(x, t)
    wanted = eps if predict == "eps" else a * eps - s * images
    (loss,) = found.values()
    torch.testing.assert_close(loss, (said - wanted).square().mean())
    noise = model.denoise(x[:1], int(t[0]))  # either way the noise comes out
    torch.testing.assert_close(noise, said[:1] if predict == "eps" else a[0] * said[:1] + s[0] * x[:1])


@pytest.mark.system("classifier-free-guidance")
def test_the_class_is_left_out_with_probability_drop():
    model = built(conditional=True, drop=0.2)
    assert model.needs == ("pictures", "labels")
    torch.manual_seed(0)
    told = model._told(batch_of(torch.zeros(3000, 3, 1, 1), [i % 3 for i in range(3000)]))
    assert (told == model.conditional).float().mean().item() == pytest.approx(0.2, abs=0.025)
    kept = told != model.conditional
    assert torch.equal(told[kept], (torch.arange(3000) % 3)[kept])


# ---- samples


@pytest.mark.system("ddpm")
def test_a_sample_is_the_same_to_the_bit_in_any_company():
    model = built(conditional=True)
    for options in ({"sampler": "ddpm", "steps": 4}, {"sampler": "ddim", "eta": 0.5, "steps": 4}, {"guidance": 3.0, "steps": 4}):
        together = model.sample(3, 7, [0, 1, 2], **options)
        assert together.shape == (3, 3, 8, 8)
        assert torch.equal(model.sample(1, 7, [2], start=2, **options)[0], together[2])
        assert together.min() >= 0 <= together.max() <= 1
        assert not torch.equal(together[0], together[1])
    asked = []
    model.unet.register_forward_hook(lambda module, given, out: asked.append(int(given[1][0])))
    model.sample(1, 0, [0], sampler="ddpm")
    assert asked == list(range(99, -1, -1))  # T steps
    z = model.latents(2, 4)
    assert torch.equal(model.decode_latents(z, [0, 1]), model.sample(2, 4, [0, 1]))


def test_a_way_between_two_codes_keeps_their_length():
    model = built()
    one, other = model.latents(2, 0)
    middle = model.between(one, other, 0.5)
    assert middle.norm().item() == pytest.approx(float((one.norm() + other.norm()) / 2), rel=0.01)
    torch.testing.assert_close(model.between(one, other, 1e-6), one, atol=1e-4, rtol=0)
    torch.testing.assert_close(model.between(one, one, 0.3), one)


@pytest.mark.system("classifier-free-guidance")
def test_guidance_1_is_the_class_0_is_none_and_3_goes_beyond():
    model = built(conditional=True)
    with torch.no_grad():
        x, classes = model.latents(2, 0), torch.tensor([0, 2])
        null, told = model.denoise(x, 40), model.denoise(x, 40, classes)
        assert not torch.allclose(null, told)
        assert torch.equal(model.denoiser(classes, 1.0)(x, 40), told)
        assert torch.equal(model.denoiser(classes, 0.0)(x, 40), null)
        torch.testing.assert_close(model.denoiser(classes, 3.0)(x, 40), null + 3 * (told - null), atol=1e-5, rtol=1e-4)
    assert torch.equal(model.sample(2, 1, [0, 2], guidance=1.0, steps=4), model.sample(2, 1, [0, 2], steps=4))
    assert torch.equal(model.sample(2, 1, [0, 2], guidance=0.0, steps=4), model.sample(2, 1, steps=4))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"steps": 101}, "101 steps"),
        ({"sampler": "ddimm"}, "did you mean ddim"),
        ({"eta": 0.5}, "no effect with --sampler dpm"),
        ({"guidance": 2.0}, "told no classes"),
        ({"classifier": len}, "--class"),
    ],
)
def test_what_cannot_be_sampled(options, says):
    with pytest.raises(UsageError) as error:
        built().sample(1, 0, **options)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"image_size": 9}, "a multiple of 2"), ({"attention": [5]}, "there are 8, 4"), ({"predict": "x"}, "eps, v"), ({"noise": "cos"}, "cosine"),
     ({"drop": 2.0}, "probability"), ({"heads": 3}, "heads")],
)  # fmt: skip
def test_what_cannot_be_built(changes, says):
    with pytest.raises(UsageError, match=says):
        built(**changes)


# ---- on real pictures


@pytest.mark.system("ddpm")
@pytest.mark.system("classifier-free-guidance")
def test_it_learns_digits_and_draws_the_one_that_is_asked_for(digit_folder, knn, go, tmp_path):
    settings = {"steps": 110, "epochs": 40, "batch_size": 12, "lr": 4e-3, "ema": 0.0, "augment": "none", "schedule": "one-cycle", "conditional": True}
    run = task.train("ddpm.tiny", digit_folder, split_val="none", output=tmp_path / "runs", device="cpu", layers=[settings])
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "epoch"]
    assert losses[-1] < 0.6 * losses[0]
    go("-m", run, "-n", 9, "--seed", 1, "--steps", 8, "--guidance", 2, "-o", "made/", "-q")
    made = pixels(*sorted(tmp_path.glob("made/*.png")))
    found, distance = knn(made)
    assert (found == np.arange(9) % 3).mean() > 0.8
    assert distance < 2.4 < knn(np.random.default_rng(0).integers(0, 255, (12, 8, 8, 3)))[1]
    go("-m", run, "-n", 2, "--class", "3", "--sampler", "ddim", "--eta", "0.3", "--steps", 5, "-o", "ddim/", "-q")
    assert repro.reproduce(tmp_path / "ddim/0001.png").off == 0
    go("-m", run, "--interpolate", "0,3", "--frames", 3, "--steps", 8, "--guidance", 2, "--seed", 1, "-o", "walk/", "-q")
    assert (pixels("walk/0000.png", "walk/0002.png")[0] == made[0]).all()
    with pytest.raises(UsageError, match="draws noise"):
        go("-m", run, "--interpolate", "0,3", "--sampler", "ddpm", "-o", "no/", "-q")


@pytest.mark.system("classifier-guidance")
def test_a_classifier_guides_a_model_that_knows_no_classes(digits, digit_folder, knn, go, tmp_path):
    model = built(predict="v").train()
    kept = np.flatnonzero(np.isin(digits.labels, (0, 1, 3)))[:120]
    images = torch.from_numpy(digits.pictures[kept])[:, None].expand(-1, 3, -1, -1) * 2 - 1
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    for turn in range(110):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - turn / 110)
        optimizer.zero_grad()
        model.losses(batch_of(images[torch.randint(len(kept), (12,))]))["velocity"].backward()
        optimizer.step()
    path = weights.save(model, tmp_path / "ddpm.safetensors", weights.Info(reference="ddpm.tiny", categories=numbered(1)))
    settings = {"epochs": 15, "batch_size": 12, "lr": 1e-2, "augment": "none", "image_size": 8}
    judge = task.train("simple-cnn.tiny", digit_folder, split_val="none", output=tmp_path / "runs", device="cpu", layers=[settings])
    share, made = {}, {}
    for scale in (0, 2, 8):
        words = ("--classifier", judge, "--guidance", scale, "--sampler", "ddpm", "--steps", 12, "--class", "0,1,3")
        go("-m", path, "-n", 9, *words, "-o", f"{scale}/", "-q")
        made[scale] = pixels(*sorted(tmp_path.glob(f"{scale}/*.png")))
        share[scale] = (knn(made[scale])[0] == np.arange(9) % 3).mean()
    assert share[0] < share[8]
    assert share[0] <= share[2] <= share[8]
    assert share[8] > 0.7
    go("-m", path, "-n", 3, "--sampler", "ddpm", "--steps", 12, "-o", "plain/", "-q")
    assert (pixels(*sorted(tmp_path.glob("plain/*.png"))) == made[0][:3]).all()  # s = 0 changes nothing
    assert repro.reproduce(tmp_path / "8/0004.png").off == 0
    go("-m", path, "--classifier", judge, "--guidance", 4, "--class", "3", "--steps", 6, "-o", "one.png", "-q")  # dpm-solver++ too
    assert Image.open("one.png").info["cvtool"].count("classifier_sha256") == 1
    with pytest.raises(UsageError, match="unknown class"):
        go("-m", path, "--classifier", judge, "--class", "cat", "-o", "no.png", "-q")
    with pytest.raises(UsageError, match="no classifier"):
        go("-m", path, "--classifier", "vae.tiny@none", "--class", "3", "-o", "no.png", "-q")
    told = weights.build("ddpm.tiny", categories=[*CLASSES[:2], {"id": 3, "name": "seven"}], conditional=True)
    table = weights.Info(reference="ddpm.tiny", categories=told.categories, arguments={"conditional": True})
    other = weights.save(told, tmp_path / "told.safetensors", table)
    with pytest.raises(UsageError, match="does not know seven"):
        go("-m", other, "--classifier", judge, "--class", "seven", "-o", "no.png", "-q")
    info = json.loads(Image.open("one.png").info["cvtool"])
    with Image.open("one.png") as image:
        image.save("forged.png", pnginfo=repro.notes(info | {"classifier_sha256": "0" * 64}))
    with pytest.raises(ModelError, match="guided by the weights"):
        repro.reproduce(tmp_path / "forged.png")
