"""GAN, cGAN, WGAN and WGAN-GP: what each is made of, and that each learns real digits and makes pictures of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from cvtool import registry, weights
from cvtool.categories import numbered
from cvtool.cli import command
from cvtool.errors import UsageError
from cvtool.tasks import train
from cvtool.train import recipe as recipes

FAMILY = ("gan", "cgan", "dcgan", "wgan", "wgan-gp")


def built(name, **changes):
    torch.manual_seed(0)
    return weights.build(f"{name}.tiny", categories=numbered(3), **changes)


def kinds(module):
    return {type(m) for m in module.modules()}


def asked(model, n=4):
    return [0, 1, 2, 0][:n] if model.conditional else None


@pytest.mark.system("gan")
def test_a_gan_is_fully_connected():
    model = built("gan")
    for player in (model.generator, model.discriminator):
        assert nn.Linear in kinds(player)
        assert not {nn.Conv2d, nn.ConvTranspose2d} & kinds(player)
    assert isinstance(model.generator[1], nn.Tanh)
    assert model.judge(torch.randn(2, 3, 16, 16)).shape == (2,)


@pytest.mark.system("cgan")
def test_the_class_is_concatenated_in_both_players():
    model = built("cgan").eval()
    for player in (model.generator, model.discriminator):
        assert (
            player.third[0].in_features
            == player.first(torch.zeros(1, player.first[0].in_features)).shape[1] + player.second(torch.zeros(1, 3)).shape[1]
        )
    z, pictures = model.latents(1, 0), torch.randn(1, 3, 16, 16)
    made = [model.generate(z, torch.tensor([k])) for k in range(3)]
    judged = [model.judge(pictures, torch.tensor([k])).item() for k in range(3)]
    assert not torch.equal(made[0], made[1])
    assert len(set(judged)) == 3
    with pytest.raises(ValueError, match="told the class"):
        model.generate(z)


@pytest.mark.system("cgan")
def test_a_classifier_agrees_with_the_class_that_was_asked_for(taught, digits, tmp_path):
    """Trained on real digits; `generate --class` of the checkpoint, judged by the neighbours among digits that it has not seen."""
    step = taught("cgan.tiny", 400, gan_loss="wgan", gradient_penalty=3.0, optimizer="adam:beta1=0.0,beta2=0.9", lr=3e-3)
    model = step.evaluated
    info = weights.Info(reference="cgan.tiny", arguments={"image_size": 8}, categories=numbered(10), prepare=model.prepare)
    path = weights.save(model, tmp_path / "digits.safetensors", info)
    neighbours = KNeighborsClassifier(3).fit(digits.pictures[600:].reshape(-1, 64), digits.labels[600:])
    made = model.eval().sample(200, 0, [i % 10 for i in range(200)]).mean(1).reshape(200, 64).numpy()
    assert (neighbours.predict(made) == np.arange(200) % 10).mean() > 0.6  # by chance 0.1
    done = CliRunner().invoke(
        command("generate"), ["-m", str(path), "--class", model.categories[3]["name"], "-n", "10", "-o", f"{tmp_path}/threes/", "-q"]
    )
    assert done.exit_code == 0, done.output
    files = sorted((tmp_path / "threes").glob("*.png"))
    threes = np.stack([np.array(Image.open(file).convert("L")).ravel() / 255 for file in files])
    assert threes.shape == (10, 64)
    assert (neighbours.predict(threes) == 3).mean() > 0.6


@pytest.mark.system("wgan")
def test_wgan_trains_as_its_algorithm_says():
    recipe = recipes.of_model(registry.catalogue()["wgan"].recipe, "base")
    assert (recipe["gan_loss"], recipe["clip_weights"], recipe["d_steps"], recipe["lr"]) == ("wgan", 0.01, 5, 5e-5)
    assert recipe["optimizer"].startswith("rmsprop")
    assert nn.Sigmoid not in kinds(built("wgan").discriminator)


@pytest.mark.system("wgan-gp")
def test_wgan_gps_critic_normalises_over_no_batch():
    model, recipe = built("wgan-gp"), recipes.of_model(registry.catalogue()["wgan-gp"].recipe, "base")
    assert (recipe["gan_loss"], recipe["gradient_penalty"], recipe["d_steps"]) == ("wgan", 10.0, 5)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.discriminator.modules())
    assert nn.GroupNorm in kinds(model.discriminator)
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.generator.modules())


@pytest.mark.system("gan")
@pytest.mark.parametrize("name", FAMILY)
def test_a_sample_depends_on_seed_and_number_alone(name):
    model = built(name).eval()
    four = model.sample(4, 7, asked(model))
    torch.testing.assert_close(model.sample(2, 7, [2, 0] if model.conditional else None, start=2), four[2:])
    assert torch.equal(model.sample(4, 7, asked(model)), four)
    assert not torch.equal(model.sample(1, 8, asked(model, 1))[0], four[0])


@pytest.mark.system("gan-hacks")
@pytest.mark.parametrize("name", FAMILY)
def test_the_range_says_what_squashes(name):
    for told, squash, low in (((-1, 1), nn.Tanh, -1.0), ((0, 1), nn.Sigmoid, 0.0)):
        model = built(name, range=told).eval()
        assert squash in kinds(model)
        batch = model.prepare([np.full((16, 16, 3), value, np.uint8) for value in (0, 255)])
        assert batch.images[0].unique().tolist() == [low]
        assert batch.images[1].unique().tolist() == [1.0]
        made = model.generate(torch.randn(2, model.noise), torch.tensor([0, 1]) if model.conditional else None)
        assert low <= made.min() < made.max() <= 1
    with pytest.raises(UsageError, match="or 0,1"):
        built(name, range=(0, 255))


@pytest.mark.system("gan-hacks")
def test_where_z_comes_from():
    for name, kind in (("gan", "sphere"), ("dcgan", "sphere"), ("cgan", "uniform"), ("dcgan", "gaussian")):
        model = built(name, latent=kind)
        for z in (model.drawn(500), model.latents(500, 0)):
            assert z.shape == (500, 16)
            if kind == "sphere":
                torch.testing.assert_close(z.norm(dim=1), torch.full((500,), 4.0))
            elif kind == "uniform":
                assert z.abs().max() <= 1
                assert z.std().item() == pytest.approx(3**-0.5, abs=0.02)
            else:
                assert z.std().item() == pytest.approx(1, abs=0.03)
                assert z.norm(dim=1).std() > 0.3
        torch.testing.assert_close(model.latents(2, 0, start=3), model.latents(5, 0)[3:])
    with pytest.raises(UsageError, match="unknown latent"):
        built("gan", latent="cube")


@pytest.mark.system("gan-hacks")
def test_dense_gradients():
    """Leaky activations in both, means for maxima, transposed convolutions."""
    model = built("dcgan", activation="leaky-relu:0.2", down="avg", up="transpose")
    assert not {nn.ReLU, nn.MaxPool2d} & kinds(model)
    assert {m.negative_slope for m in model.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert [m.name for m in model.discriminator if hasattr(m, "name")] == ["avg", "avg"]
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in model.generator) == 3
    assert built("dcgan", up="nearest").eval().sample(1, 0).shape == (1, 3, 16, 16)
    with pytest.raises(UsageError, match="unknown up-sampling"):
        built("dcgan", up="unpool")


@pytest.mark.system("gan-hacks")
def test_every_switch_is_recorded_with_the_run(digit_folder, tmp_path):
    switches = {
        "range": "0,1", "latent": "sphere", "activation": "leaky-relu:0.2", "down": "avg", "up": "transpose", "optimizer": "adam:beta1=0.5",
        "discriminator-optimizer": "sgd", "smooth": "0.9", "history": "8", "instance-noise": "0.1",
    }  # fmt: skip
    words = [word for key, value in switches.items() for word in (f"--{key}", value)]
    done = CliRunner().invoke(
        command("train"),
        ["-m", "dcgan.tiny", "--data", str(digit_folder), "--steps", "2", "-o", str(tmp_path), "-q", "--set", "image_size=8", *words],
    )
    assert done.exit_code == 0, done.output
    kept = (tmp_path / "0001" / "recipe.toml").read_text()
    lines = ("range = [0, 1]", 'latent = "sphere"', 'activation = "leaky-relu:0.2"', 'down = "avg"', 'up = "transpose"', "smooth = 0.9",
             "history = 8", 'optimizer = "adam:beta1=0.5"', 'discriminator_optimizer = "sgd"', "instance_noise = 0.1")  # fmt: skip
    for line in lines:
        assert line in kept
    model, _ = weights.load(str(tmp_path / "0001"))
    assert isinstance(model.generator[-1], nn.Sigmoid)
    assert model.latent == "sphere"


@pytest.mark.system("lsgan")
@pytest.mark.system("gan-hinge")
@pytest.mark.system("gan")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dcgan", ["--gan-loss", "lsgan"]),
        ("dcgan", ["--gan-loss", "hinge", "--discriminator-spectral-norm", "true", "--discriminator-norm", "none"]),
        ("dcgan", ["--gan-loss", "wgan", "--clip-weights", "0.01", "--discriminator-lr", "0.001", "--ema", "0.9"]),
        ("gan", ["--gan-loss", "minimax", "--d-steps", "2", "--optimizer", "momentum", "--lr", "0.1"]),
        ("gan", ["--gan-loss", "wgan", "--gradient-penalty", "10", "--adaptive", "0.5,1.0,2"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1],
)
def test_any_gan_takes_any_loss_from_the_command_line(name, words, digit_folder, tmp_path):
    fixed = ["-m", f"{name}.tiny", "--data", str(digit_folder), "--set", "image_size=8", "--steps", "4", "-b", "12", "-o", str(tmp_path), "-q"]
    done = CliRunner().invoke(command("train"), [*fixed, "--augment", "none", *words])
    assert done.exit_code == 0, done.output
    info = weights.read_info(tmp_path / "0001")
    for key, value in zip(words[::2], words[1::2], strict=True):
        assert str(info.recipe.get(key[2:].replace("-", "_"), info.arguments.get("discriminator_norm"))).lower().startswith(value)
    lines = [json.loads(line) for line in (tmp_path / "0001/log.jsonl").read_text().splitlines()]
    for key in ("d_real", "d_made", "adversarial"):  # in some epoch: an adaptive run may leave one player out of another
        assert np.isfinite([line[key] for line in lines if key in line]).all()
        assert any(key in line for line in lines)


def test_grey_pictures_need_one_channel():
    model = built("dcgan", channels=1).eval()
    made = model.sample(2, 0)
    assert made.shape == (2, 3, 16, 16)
    assert torch.equal(made[:, 0], made[:, 2])
    assert model.generator[-2].out_channels == model.discriminator[0].in_channels == 1
    with pytest.raises(UsageError, match="channels=2"):
        built("dcgan", channels=2)


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.system("gan")
@pytest.mark.system("dcgan")
@pytest.mark.system("wgan")
@pytest.mark.system("wgan-gp")
def test_it_trains_on_real_pictures_and_generates(name, digit_folder, tmp_path):
    settings = {"image_size": 8, "steps": 6, "batch_size": 12, "augment": "none"}
    run = train.train(f"{name}.tiny", digit_folder, output=tmp_path / "runs", device="cpu", layers=[settings])
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    penalised = {"gradient_penalty"} if name == "wgan-gp" else set()
    assert {"d_real", "d_made", "adversarial", *penalised} <= set(lines[-1])
    told = ["--class", "3"] if name == "cgan" else []
    out = f"{tmp_path}/made/"
    done = CliRunner().invoke(command("generate"), ["-m", str(run), "-n", "3", "--seed", "5", "-o", out, "-q", *told])
    assert done.exit_code == 0, done.output
    model, info = weights.load(str(run))
    labels = [[c["name"] for c in info.categories].index("3")] * 3 if told else None
    expected = model.sample(3, 5, labels).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    found = np.stack([np.array(Image.open(f"{out}{i:04}.png")) for i in range(3)])
    np.testing.assert_array_equal(found, expected)


def test_what_is_refused(digit_folder, tmp_path):
    for settings, said in (
        ({"gan_loss": "wgan", "smooth": 0.9}, "has no targets"),
        ({"gradient_penalty": 10.0}, "batch normalisation mixes them"),
        ({"img_size": 32}, "makes pictures of 16"),
        ({"adaptive": "0.5"}, "TD,TG"),
        ({"adaptive": "0.5,1", "d_steps": 2}, "whose turn"),
        ({"instance_noise_turns": 5}, "no effect without"),
        ({"d_steps": 0}, "at least 1"),
        ({"history": -1}, "at least 0"),
        ({"smooth": 1.5}, "no target"),
        ({"gan_loss": "lsgam"}, "unknown gan_loss"),
        ({"discriminator_optimizer": "sgdd"}, "unknown optimizer"),
        ({"spectral_norm": True, "discriminator_spectral_norm": True}, "no effect with"),
    ):
        with pytest.raises(UsageError, match=said):
            train.train("dcgan.tiny", digit_folder, output=tmp_path / "runs", device="cpu", layers=[{"steps": 1, **settings}])
    assert not (tmp_path / "runs").exists()
    for changes, said in (({"hidden": (0,)}, "1 at least"), ({"activation": "maxout:2"}, "keep"), ({"noise": 0}, "one number")):
        with pytest.raises(UsageError, match=said):
            built("gan", **changes)
