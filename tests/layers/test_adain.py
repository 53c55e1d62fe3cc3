"""Adaptive instance normalisation: the style's statistics, and StyleGAN's affine map."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtool.layers.adain import AdaIN, adain, statistics, transfer


@pytest.mark.system("adain")
@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_the_output_has_the_styles_mean_and_deviation(seed):
    generator = torch.Generator().manual_seed(seed)
    content = 3 + 2 * torch.randn(2, 5, 16, 12, generator=generator)
    style = torch.randn(2, 5, 9, 21, generator=generator) * torch.rand(1, 5, 1, 1, generator=generator) * 4 + torch.randn(
        2, 5, 1, 1, generator=generator
    )
    made = transfer(content, style)
    assert made.shape == content.shape
    torch.testing.assert_close(made.mean((2, 3)), style.mean((2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(made.var((2, 3), correction=0).sqrt(), style.var((2, 3), correction=0).sqrt(), atol=1e-4, rtol=1e-4)


@pytest.mark.system("adain")
def test_a_pale_map_takes_over_the_styles_deviation_and_a_flat_one_its_mean():
    content, style = 0.05 * torch.randn(1, 5, 8, 6), 2 + 5 * torch.randn(1, 5, 11, 3)
    made = transfer(content, style)
    torch.testing.assert_close(made.var((2, 3), correction=0).sqrt(), style.var((2, 3), correction=0).sqrt(), atol=1e-4, rtol=0)
    flat = transfer(torch.full((1, 5, 8, 6), 0.25), style)
    torch.testing.assert_close(flat, style.mean((2, 3), keepdim=True).expand(1, 5, 8, 6))


@pytest.mark.system("adain")
def test_it_is_the_equation():
    x, scale, shift = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 1, 1), torch.randn(2, 3, 1, 1)
    mean, deviation = x.mean((2, 3), keepdim=True), (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(adain(x, scale, shift), scale * (x - mean) / deviation + shift)
    torch.testing.assert_close(statistics(x)[1], deviation)
    torch.testing.assert_close(transfer(x, x), x, atol=1e-5, rtol=1e-5)


@pytest.mark.system("adain")
def test_an_affine_map_of_the_style_vector_gives_two_numbers_a_channel():
    layer = AdaIN(6)
    assert layer.affine.weight.shape == (12, 512)
    x, w = torch.randn(3, 6, 8, 8), torch.randn(3, 512)
    y = layer.affine(w)
    expected = adain(x, y[:, :6, None, None], y[:, 6:, None, None])
    torch.testing.assert_close(layer(x, w), expected)
    layer(x, w).square().sum().backward()
    assert layer.affine.weight.grad.abs().sum() > 0
    begun = layer(x, torch.zeros(3, 512))  # y_s = 1 and y_b = 0
    torch.testing.assert_close(begun.mean((2, 3)), torch.zeros(3, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(begun.std((2, 3), correction=0), torch.ones(3, 6), atol=1e-4, rtol=0)


def test_half_precision_is_computed_in_full():
    x = 300 + torch.randn(1, 2, 32, 32)
    half = transfer(x.bfloat16(), torch.randn(1, 2, 8, 8).bfloat16())
    assert half.dtype == torch.bfloat16
    assert half.isfinite().all()
