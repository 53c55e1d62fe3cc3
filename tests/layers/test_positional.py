"""Positions: the trigonometric code, learned vectors that are interpolated, convolutions that carry them, none."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtool import categories, weights
from cvtool.errors import UsageError
from cvtool.layers import positional
from cvtool.layers.positional import ConditionalPositions, Learned, Sinusoidal, positions
from cvtool.ops.sinusoid import sinusoid


@pytest.mark.system("positional-encoding")
@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(1, 33))
def test_the_code_is_the_formula(length, channels):
    code = sinusoid(length, channels)
    for p in range(length):
        for c in range(channels):
            angle = p / 10_000 ** ((c - c % 2) / channels)
            assert code[p, c] == pytest.approx(math.sin(angle) if c % 2 == 0 else math.cos(angle))


@pytest.mark.system("positional-encoding")
def test_position_0_is_0_1_0_1():
    assert sinusoid(3, 8)[0].tolist() == [0, 1] * 4
    added = Sinusoidal(8)(torch.zeros(2, 3, 8))
    assert added[:, 0].tolist() == [[0, 1] * 4] * 2
    torch.testing.assert_close(added[0].double(), torch.from_numpy(sinusoid(3, 8)), atol=1e-6, rtol=0)


@pytest.mark.system("positional-encoding")
def test_products_of_codes_depend_on_the_distance_alone():
    code = sinusoid(40, 64)
    product = code @ code.T
    for distance in range(5):
        assert np.ptp(np.diagonal(product, distance)) < 1e-9


@pytest.mark.system("positional-encoding")
@pytest.mark.parametrize("name", positional.NAMES)
@pytest.mark.parametrize("extra", [0, 1])
def test_each_keeps_the_shape_at_any_grid(name, extra):
    layer = positions(name, (4, 4), 8, extra=extra)
    for grid in ((4, 4), (6, 3), (9, 9)):
        x = torch.randn(2, extra + grid[0] * grid[1], 8)
        assert layer(x, grid).shape == x.shape
    assert bool(list(layer.parameters())) == (name in ("learned", "peg"))


@pytest.mark.system("positional-encoding")
@pytest.mark.parametrize("name", positional.NAMES)
def test_a_vision_transformer_takes_each(name):
    model = weights.build("vit.tiny", categories=categories.numbered(4), pos_emb=name)
    images = torch.randn(2, 3, 64, 64)
    F.cross_entropy(model(images), torch.tensor([0, 1])).backward()
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 96, 72)).shape == (1, 4)
        turned = images.unflatten(3, (8, 8)).flip(3).flatten(3)  # columns of patches in the reverse order
        assert torch.allclose(model(images), model(turned), atol=1e-5) == (name == "none")  # without positions patches are a set


@pytest.mark.system("positional-encoding")
def test_learned_vectors_are_interpolated_over_the_grid():
    layer = Learned((4, 4), 3, extra=1)
    y, x = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    with torch.no_grad():
        layer.weight[0, 1:] = torch.stack([x, y, torch.ones(4, 4)], -1).flatten(0, 1)
    same = layer.at((4, 4))
    assert same is layer.weight
    larger = layer.at((8, 8))
    assert larger.shape == (1, 65, 3)
    assert torch.equal(larger[:, 0], layer.weight[:, 0])  # the class token's stays
    grid = larger[0, 1:].unflatten(0, (8, 8))
    torch.testing.assert_close(grid[..., 2], torch.ones(8, 8))
    torch.testing.assert_close(grid[2:6, 3, 0], torch.full((4,), 1.25), atol=0.05, rtol=0)  # a ramp to the right stays one
    assert (grid[:, 1:, 0] - grid[:, :-1, 0] >= -1e-6).all()
    layer.resize((8, 8))
    assert layer.grid == (8, 8)
    torch.testing.assert_close(layer.weight, larger)


@pytest.mark.system("positional-encoding")
def test_a_convolution_with_zero_padding_tells_border_from_middle():
    torch.manual_seed(0)
    layer = ConditionalPositions(6, extra=1)
    x = torch.randn(1, 1, 6).expand(1, 26, 6)  # the same token everywhere
    made = layer(x, (5, 5))
    assert torch.equal(made[:, 0], x[:, 0])  # the class token passes
    image = made[0, 1:].unflatten(0, (5, 5))
    torch.testing.assert_close(image[2, 2], image[1, 3])  # the middle is alike
    assert not torch.allclose(image[0, 0], image[2, 2])
    assert layer.conv.weight.shape == (6, 1, 3, 3)  # depth-wise


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(UsageError, match="positional embedding") as caught:
        positions("sinco", (2, 2), 4)
    assert "sincos" in caught.value.hint
