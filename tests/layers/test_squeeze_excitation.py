"""Squeeze-and-excitation: the gates, their cost, and `se_ratio` of the residual networks."""

import pytest
import torch
from torch import nn

from cvtool import categories, weights
from cvtool.layers.squeeze_excitation import SqueezeExcitation


@pytest.mark.system("squeeze-excitation")
def test_it_is_the_papers_three_equations():
    layer, x = SqueezeExcitation(64), torch.randn(3, 64, 5, 7)
    assert layer.fc1.weight.shape == (4, 64, 1, 1)  # C -> C / 16
    assert layer.fc2.weight.shape == (64, 4, 1, 1)
    squeezed = x.mean((2, 3))  # GAP
    hidden = (squeezed @ layer.fc1.weight[:, :, 0, 0].t() + layer.fc1.bias).relu()
    gates = (hidden @ layer.fc2.weight[:, :, 0, 0].t() + layer.fc2.bias).sigmoid()
    torch.testing.assert_close(layer.gates(x)[:, :, 0, 0], gates)
    torch.testing.assert_close(layer(x), x * gates[:, :, None, None])


@pytest.mark.system("squeeze-excitation")
def test_gates_lie_between_0_and_1_and_multiply_channels():
    layer, x = SqueezeExcitation(32, ratio=8), 20 * torch.randn(4, 32, 3, 3)
    nn.init.normal_(layer.fc1.weight, std=2), nn.init.normal_(layer.fc2.weight, std=2)
    gates = layer.gates(x)
    assert gates.shape == (4, 32, 1, 1)
    assert ((gates >= 0) & (gates <= 1)).all()
    assert gates.std() > 0.2
    nn.init.zeros_(layer.fc2.weight), nn.init.constant_(layer.fc2.bias, 30)
    torch.testing.assert_close(layer(x), x)  # open


@pytest.mark.system("squeeze-excitation")
@pytest.mark.parametrize(("channels", "ratio"), [(64, 16), (256, 16), (2048, 16), (48, 4), (8, 16)])
def test_it_costs_two_small_matrices(channels, ratio):
    hidden = max(1, channels // ratio)
    assert sum(p.numel() for p in SqueezeExcitation(channels, ratio=ratio).parameters()) == 2 * channels * hidden + hidden + channels


@pytest.mark.system("squeeze-excitation")
@pytest.mark.parametrize(
    ("reference", "parameters"),
    [("resnet.50", 28_088_024), ("resnext.50-32x4d", 27_559_896), ("resnet.18", None), ("resnet.20", None), ("resnet.tiny", None)],
)
def test_se_ratio_16_stands_in_every_block_of_any_resnet_and_resnext(reference, parameters):
    with torch.device("meta"):
        plain = weights.build(reference, categories=categories.numbered(1000))
        model = weights.build(reference, categories=categories.numbered(1000), se_ratio=16)
    count, blocks = sum(p.numel() for p in model.parameters()), [m for m in model.modules() if isinstance(m, SqueezeExcitation)]
    assert len(blocks) == sum(hasattr(m, "drop_path") for m in model.modules())
    assert count - sum(p.numel() for p in plain.parameters()) == sum(p.numel() for block in blocks for p in block.parameters())
    assert parameters in (None, count)
