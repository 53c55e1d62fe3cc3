"""Convolution as arithmetic: sizes, counts, im2col, fixed kernels, the matrix and its transpose, receptive fields."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cvtool.errors import UsageError
from cvtool.metrics.cost import cost
from cvtool.ops import conv, kernels


@pytest.mark.system("conv2d")
@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3))
def test_the_size_is_that_of_a_convolution(size, kernel, stride, padding, dilation):
    if conv.spread(kernel, dilation) > size + 2 * padding:
        return
    made = F.conv2d(torch.zeros(1, 1, size, size), torch.zeros(1, 1, kernel, kernel), stride=stride, padding=padding, dilation=dilation)
    assert made.shape[-1] == conv.out_size(size, kernel, stride=stride, padding=padding, dilation=dilation)


@pytest.mark.system("conv2d")
def test_ten_maps_of_5x5x3_are_760_parameters():
    layer = nn.Conv2d(3, 10, 5, device="meta")
    found = cost(layer, lambda: layer(torch.empty(1, 3, 32, 32, device="meta")))
    assert found.parameters == 10 * (5 * 5 * 3 + 1) == 760
    assert found.macs == 28 * 28 * 10 * 75
    assert found.activations == 10 * 28 * 28


@pytest.mark.system("conv2d")
def test_im2col_of_the_worked_example_is_the_convolution():
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.rand(1, 3, 227, 227, generator=generator), torch.randn(96, 3, 11, 11, generator=generator) / 19
    bias = torch.randn(96, generator=generator)
    assert conv.out_size(227, 11, stride=4) == 55
    rows = conv.im2col(x, 11, stride=4)
    assert rows.shape == (1, 3025, 363)
    assert weight.flatten(1).t().shape == (363, 96)
    made = conv.conv2d_im2col(x, weight, bias, stride=4)
    assert made.shape == (1, 96, 55, 55)
    torch.testing.assert_close(made, F.conv2d(x, weight, bias, stride=4), atol=1e-4, rtol=0)


@pytest.mark.system("conv2d")
@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2))
def test_im2col_is_the_convolution_at_every_stride_and_padding(inputs, outputs, kernel, stride, padding):
    generator = torch.Generator().manual_seed(kernel)
    x, weight = torch.randn(2, inputs, 9, 12, generator=generator), torch.randn(outputs, inputs, kernel, kernel, generator=generator)
    expected = F.conv2d(x, weight, stride=stride, padding=padding)
    torch.testing.assert_close(conv.conv2d_im2col(x, weight, stride=stride, padding=padding), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.system("conv2d")
def test_a_1x1_convolution_is_one_matrix_for_every_pixel():
    x, layer = torch.randn(2, 8, 5, 6), nn.Conv2d(8, 3, 1)
    matrix = layer.weight[:, :, 0, 0]
    torch.testing.assert_close(layer(x), torch.einsum("oc,bchw->bohw", matrix, x) + layer.bias[:, None, None])


@pytest.mark.system("conv2d")
@pytest.mark.parametrize("name", kernels.KERNELS)
def test_fixed_kernels_are_convolutions(name, picture):
    light = picture(31, 24).astype(float) @ (0.299, 0.587, 0.114)
    weights = torch.from_numpy(kernels.kernel(name))[None, None]
    padded = F.pad(torch.from_numpy(light)[None, None], (len(weights[0, 0]) // 2,) * 4, mode="replicate")
    np.testing.assert_allclose(kernels.filtered(light, name), F.conv2d(padded, weights)[0, 0].numpy(), atol=1e-9)


@pytest.mark.system("conv2d")
def test_sobel_finds_an_edge_by_its_direction():
    edge = np.zeros((8, 8))
    edge[:, 4:] = 1
    assert np.abs(kernels.filtered(edge, "sobel-x")).max() == 4
    assert np.abs(kernels.filtered(edge, "sobel-y")).max() == 0
    np.testing.assert_allclose(kernels.filtered(edge, "sobel"), np.abs(kernels.filtered(edge, "sobel-x")))
    np.testing.assert_allclose(kernels.filtered(edge.T, "sobel"), kernels.filtered(edge, "sobel").T)
    with pytest.raises(UsageError, match="unknown kernel") as caught:
        kernels.kernel("soble-x")
    assert "sobel-x" in caught.value.hint


def test_scipy_has_the_same_sobel():
    from scipy import ndimage

    picture = np.random.default_rng(0).random((12, 9))
    np.testing.assert_allclose(kernels.filtered(picture, "sobel-x"), ndimage.sobel(picture, axis=1, mode="nearest"), atol=1e-12)
    np.testing.assert_allclose(kernels.filtered(picture, "sobel-y"), ndimage.sobel(picture, axis=0, mode="nearest"), atol=1e-12)


@pytest.mark.system("transposed-conv")
def test_the_worked_example_of_a_transposed_convolution():
    x, kernel = torch.tensor([[2.0, 4], [0, 1]]), torch.tensor([[3.0, 1], [1, 5]])
    expected = torch.tensor([[6.0, 14, 4], [2, 17, 21], [0, 1, 5]])
    assert torch.equal(F.conv_transpose2d(x[None, None], kernel[None, None])[0, 0], expected)
    matrix = conv.conv_matrix(kernel, (3, 3))  # of the convolution 3 x 3 -> 2 x 2
    assert torch.equal((matrix.t() @ x.flatten()).view(3, 3), expected)


@pytest.mark.system("transposed-conv")
@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(3, 6), st.integers(3, 6))
def test_a_transposed_convolution_multiplies_by_the_transposed_matrix(kernel, stride, padding, height, width):
    if 2 * padding >= kernel + min(height, width) or padding >= kernel:
        return
    weights = torch.randn(kernel, kernel, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    size = tuple(conv.transposed_size(side, kernel, stride=stride, padding=padding) for side in (height, width))
    if min(size) < 1:
        return
    matrix = conv.conv_matrix(weights, size, stride=stride, padding=padding)
    x = torch.randn(height, width, dtype=torch.float64)
    made = F.conv_transpose2d(x[None, None], weights[None, None], stride=stride, padding=padding)[0, 0]
    assert made.shape == size
    assert matrix.shape == (x.numel(), made.numel())
    torch.testing.assert_close((matrix.t() @ x.flatten()).view(size), made)
    torch.testing.assert_close(matrix @ made.flatten(), F.conv2d(made[None, None], weights[None, None], stride=stride, padding=padding).flatten())


@pytest.mark.system("transposed-conv")
def test_three_by_three_grows_to_seven_or_five_with_padding():
    x, kernel = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
    assert F.conv_transpose2d(x, kernel, stride=2).shape[-1] == conv.transposed_size(3, 3, stride=2) == 7
    assert F.conv_transpose2d(x, kernel, stride=2, padding=1).shape[-1] == conv.transposed_size(3, 3, stride=2, padding=1) == 5


@pytest.mark.system("transposed-conv")
def test_the_bilinear_kernel_interpolates():
    kernel = kernels.bilinear(3)
    np.testing.assert_array_equal(kernel, [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]])
    row = torch.tensor([[[[1.0, 3, 7]]]])
    made = F.conv_transpose2d(row, torch.from_numpy(kernel).float()[None, None], stride=2)[0, 0, 1]
    assert made[1:-1].tolist() == [1, 2, 3, 5, 7]


@pytest.mark.system("dilated-conv")
@pytest.mark.parametrize(("rate", "field"), [(1, 3), (2, 5), (3, 7), (4, 9)])
def test_a_dilated_kernel_covers_more_with_nine_weights(rate, field):
    layer = nn.Conv2d(1, 1, 3, padding=rate, dilation=rate, bias=False)
    nn.init.ones_(layer.weight)
    assert layer.weight.numel() == 9
    assert conv.spread(3, rate) == field
    assert conv.receptive_field(layer.double(), channels=1, size=33) == (field, field)


def test_the_field_of_what_sees_nothing_and_of_what_sees_all():
    assert conv.receptive_field(lambda x: x * 0, size=9) == (0, 0)
    assert conv.receptive_field(lambda x: x.mean((2, 3), keepdim=True), size=9) == (9, 9)
    assert conv.receptive_field(nn.Conv2d(3, 1, (3, 5), padding=(1, 2)).double(), size=17) == (3, 5)


@pytest.mark.system("conv2d")
def test_im2col_of_a_kernel_that_is_no_square():
    x, weight = torch.randn(2, 3, 7, 10), torch.randn(4, 3, 1, 7)
    assert conv.im2col(x, (1, 7), padding=0).shape == (2, 7 * 4, 21)
    torch.testing.assert_close(conv.conv2d_im2col(x, weight), F.conv2d(x, weight), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(conv.conv2d_im2col(x, weight, stride=2, padding=1), F.conv2d(x, weight, stride=2, padding=1), atol=1e-4, rtol=1e-4)
