"""VAE: the two terms of the bound, both likelihoods, codes and pictures of the prior, and that it learns real pictures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributions import Bernoulli, Normal, kl_divergence

from cvtool import weights
from cvtool.batch import Batch
from cvtool.cli import command
from cvtool.errors import UsageError
from cvtool.losses.gaussian_kl import gaussian_kl
from cvtool.results import Labels
from cvtool.tasks import train as task


def built(variant="tiny", classes=3, **changes):
    from cvtool.categories import numbered

    torch.manual_seed(0)
    return weights.build(f"vae.{variant}", categories=numbered(classes), **changes).eval()


def batch_of(images):
    return Batch(
        images, torch.zeros(len(images), *images.shape[2:], dtype=torch.bool), [None] * len(images), [Labels(torch.tensor([1]))] * len(images)
    )


@pytest.mark.system("vae")
def test_the_kl_is_that_of_a_diagonal_gaussian_and_0_at_the_prior():
    torch.manual_seed(0)
    mean, logvar = torch.randn(4, 6), torch.randn(4, 6)
    found = gaussian_kl(mean, logvar)
    for i in range(4):
        plain = sum(1 + logvar[i, j].item() - mean[i, j].item() ** 2 - math.exp(logvar[i, j].item()) for j in range(6))
        assert found[i].item() == pytest.approx(-0.5 * plain, rel=1e-5)
    prior = Normal(torch.zeros(6), torch.ones(6))
    torch.testing.assert_close(found, kl_divergence(Normal(mean, torch.exp(0.5 * logvar)), prior).sum(1))
    assert (found > 0).all()
    assert torch.equal(gaussian_kl(torch.zeros(2, 6), torch.zeros(2, 6)), torch.zeros(2))


@pytest.mark.system("vae")
def test_the_decoder_gives_mean_and_variance_of_every_value():
    images = torch.rand(2, 3, 16, 16)
    for likelihood in ("gaussian", "bernoulli"):
        model = built(likelihood=likelihood)
        with torch.no_grad():
            logits, logvar = model.decode(model.latents(2, 0))
        assert logits.shape == logvar.shape == (2, 3, 16, 16)
        p = logits.sigmoid()
        if likelihood == "gaussian":
            other = -Normal(p, torch.exp(0.5 * logvar)).log_prob(images).sum((1, 2, 3))
            assert logvar.std() > 0  # one a value, and of its own
        else:
            other = -(images * p.log() + (1 - images) * (1 - p).log()).sum((1, 2, 3))
            torch.testing.assert_close(logvar.exp(), Bernoulli(p).variance)
        torch.testing.assert_close(model.nll(images, logits, logvar), other, rtol=1e-4, atol=1e-3)


@pytest.mark.system("vae")
def test_what_is_minimised_is_minus_the_bound_and_beta_weighs_the_kl():
    images = torch.rand(3, 3, 16, 16)
    found = {}
    for beta in (1.0, 4.0):
        model = built(beta=beta)
        torch.manual_seed(1)
        with torch.no_grad():
            found[beta] = model.losses(batch_of(images))
            mean, logvar = model.encode(images)
    torch.testing.assert_close(found[4.0]["kl"], 4 * found[1.0]["kl"])
    assert torch.equal(found[4.0]["nll"], found[1.0]["nll"])
    torch.testing.assert_close(found[1.0]["kl"], gaussian_kl(mean, logvar).mean())
    torch.manual_seed(1)
    torch.testing.assert_close(model.elbo(batch_of(images)).mean(), -found[1.0]["nll"] - found[1.0]["kl"])
    with torch.no_grad():  # ln p(x), by many draws weighed by p(x, z) / q(z | x), is above it
        torch.manual_seed(2)
        z = mean[:1] + torch.exp(0.5 * logvar[:1]) * torch.randn(2000, 8)
        joint = Normal(0, 1).log_prob(z).sum(1) - model.nll(images[:1].expand(2000, -1, -1, -1), *model.decode(z))
        exact = torch.logsumexp(joint - Normal(mean[:1], torch.exp(0.5 * logvar[:1])).log_prob(z).sum(1), 0) - math.log(2000)
        bound = torch.stack([model.elbo(batch_of(images[:1])) for _ in range(200)]).mean()
    assert bound < exact


@pytest.mark.system("vae")
def test_beta_is_an_option_of_training(png, capsys):
    folder = png("photos/a.png").parent
    command("train").main(["-m", "vae.tiny", "--data", str(folder), "--beta", "4", "--dry-run"], standalone_mode=False)
    assert "\nbeta = 4.0\n" in capsys.readouterr().out


@pytest.mark.system("vae")
def test_samples_are_decoded_draws_of_the_prior():
    model = built()
    z = model.latents(3, 7)
    assert torch.equal(z[2].double(), torch.from_numpy(np.random.default_rng((7, 2)).standard_normal(8, np.float32)).double())
    made = model.sample(3, 7)
    assert made.shape == (3, 3, 16, 16)
    assert torch.equal(made, model.decode_latents(z))
    with torch.no_grad():
        torch.testing.assert_close(made, model.decode(z)[0].sigmoid())  # the mean
        deviation = torch.exp(0.5 * model.decode(z)[1])
    noisy = model.sample(3, 7, temperature=0.1)
    torch.testing.assert_close(model.sample(1, 7, start=2, temperature=0.1)[0], noisy[2])
    parts = ((noisy - made) / (0.1 * deviation))[(noisy > 0) & (noisy < 1)]
    assert parts.std().item() == pytest.approx(1, abs=0.1)
    many = model.latents(4000, 1)
    assert abs(many.mean()) < 0.02
    assert many.std().item() == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="a code is 8, not 9"):
        model.decode_latents(torch.zeros(1, 9))


def test_a_model_that_is_told_classes():
    model = built(conditional=True)
    assert model.needs == ("pictures", "labels")
    assert model.conditional == 3
    one, other = model.sample(2, 0, [0, 2]), model.sample(2, 0, [1, 2])
    assert not torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert model.embed(batch_of(torch.rand(2, 3, 16, 16))).shape == (2, 8)
    with pytest.raises(ValueError, match="class of each"):
        model.sample(1, 0)


@pytest.mark.parametrize(("change", "says"), [({"depth": 5}, "halved"), ({"likelihood": "poisson"}, "gaussian or"), ({"beta": -1.0}, "beta")])
def test_what_cannot_be_built(change, says):
    with pytest.raises(UsageError, match=says):
        built(**change)


@pytest.mark.system("vae")
def test_the_bound_rises_on_faces_and_codes_tell_them_apart(data, tmp_path):
    (tmp_path / "faces").mkdir()
    paths = sorted((data / "faces_orl").glob("s[1-6]/[1-4].pgm"))
    for path in paths:
        Image.open(path).convert("RGB").save(tmp_path / "faces" / f"{path.parent.name}-{path.stem}.png")
    settings = {"epochs": 40, "batch_size": 8, "lr": 3e-3, "augment": "none", "val_every": 40}
    run = task.train("vae.tiny", tmp_path / "faces", split_val="none", output=tmp_path / "runs", device="cpu", layers=[settings])
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    bounds = [-line["loss"] for line in lines if line["kind"] == "epoch"]
    assert bounds[-1] > bounds[len(bounds) // 2] > bounds[0]
    assert bounds[-1] > 0 > bounds[0]  # a density: the variance has become small
    model, _ = weights.load(str(run))
    pictures = [np.array(Image.open(path).convert("RGB")) for path in paths]
    batch = model.prepare(pictures)
    codes = model.embed(batch)
    assert codes.shape == (len(paths), 8)
    drawn = model.decode_latents(codes)
    images = batch.images
    own = (drawn - images).square().mean((1, 2, 3))
    assert own.mean() < 0.6 * (images - images.mean(0)).square().mean()  # nearer than the mean face

    command("generate").main(["-m", str(run), "-n", "2", "-o", str(tmp_path / "made") + "/", "-q"], standalone_mode=False)
    made = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "made").glob("*.png"))])
    assert made.shape == (2, 16, 16, 3)
    assert abs(made.mean() / 255 - images.mean().item()) < 0.15  # as light as faces are
