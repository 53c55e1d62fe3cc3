"""DCGAN by the numbers of its paper, and pictures that depend on their seed alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cvtool import weights
from cvtool.categories import numbered
from cvtool.errors import UsageError


def built(variant="tiny", classes=3, **changes):
    torch.manual_seed(0)
    return weights.build(f"dcgan.{variant}", categories=numbered(classes), **changes)


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.system("dcgan")
def test_layer_tables_and_parameters():
    model = built("base")
    assert count(model.generator) == 3_576_704
    assert count(model.discriminator) == 2_765_568
    shapes, z = [], torch.zeros(2, 100, 1, 1)
    with torch.no_grad():
        for layer in model.generator:
            z = layer(z)
            if isinstance(layer, nn.ConvTranspose2d):
                shapes.append(tuple(z.shape[1:]))
    assert shapes == [(512, 4, 4), (256, 8, 8), (128, 16, 16), (64, 32, 32), (3, 64, 64)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 4 + 3  # none on G's last and D's first layer
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)}
    assert {m.negative_slope for m in model.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert isinstance(model.generator[-1], nn.Tanh)
    convolutions = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert not any(m.bias is not None for m in convolutions)
    assert convolutions[1].weight.std().item() == pytest.approx(0.02, rel=0.02)


@pytest.mark.system("dcgan")
def test_pictures_lie_between_minus_1_and_1():
    """Real ones as made ones; z is N(0, 1), or uniform where that is asked for."""
    model = built().eval()
    batch = model.prepare([torch.full((16, 16, 3), value, dtype=torch.uint8) for value in (0, 255)])
    assert batch.images.unique().tolist() == [-1.0, 1.0]
    made = model.generate(30 * torch.randn(8, 16))
    assert -1 <= made.min() < -0.1
    assert 0.1 < made.max() <= 1
    assert model.latents(64, 0).abs().max() > 2
    assert built(latent="uniform").latents(64, 0).abs().max() <= 1


def test_samples_come_from_seed_and_number():
    model = built().eval()
    four = model.sample(4, 7)
    assert four.shape == (4, 3, 16, 16)
    assert 0 <= four.min() <= four.max() <= 1
    torch.testing.assert_close(model.sample(2, 7), four[:2])
    assert not torch.equal(model.sample(1, 8)[0], four[0])
    with pytest.raises(ValueError, match="told none"):
        model.sample(1, 0, [0])


def test_the_class_goes_to_both_players():
    model = built(conditional=True).eval()
    assert model.needs == ("pictures", "labels")
    assert not torch.equal(*model.sample(1, 0, [0]), *model.sample(1, 0, [2]))
    pictures = torch.randn(2, 3, 16, 16)
    assert not torch.equal(model.judge(pictures, torch.tensor([0, 0])), model.judge(pictures, torch.tensor([1, 1])))
    with pytest.raises(ValueError, match="class of each"):
        model.sample(2, 0, [1])


def test_sizes():
    assert built(image_size=32).eval().sample(1, 0).shape[-1] == 32
    with pytest.raises(UsageError, match="power of two"):
        built(image_size=24)
