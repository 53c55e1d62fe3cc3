"""Grouped and depth-wise separable convolutions: what they save, and what they are equal to."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvtool.layers.depthwise_separable import DepthwiseSeparable
from cvtool.metrics.cost import cost


def costs(layer, channels, size=14):
    x = torch.empty(1, channels, size, size, device="meta")
    layer = layer.to("meta")
    return cost(layer, lambda: layer(x))


@pytest.mark.system("grouped-conv")
@pytest.mark.parametrize("groups", [1, 2, 4, 8, 32])
def test_groups_divide_parameters_and_products_exactly(groups):
    whole, parts = (costs(nn.Conv2d(64, 96, 3, padding=1, groups=g, bias=False), 64) for g in (1, groups))
    assert parts.parameters * groups == whole.parameters
    assert parts.macs * groups == whole.macs
    assert parts.flops * groups == whole.flops
    assert parts.activations == whole.activations


@pytest.mark.system("grouped-conv")
@pytest.mark.parametrize("groups", [2, 3, 6])
def test_it_is_one_convolution_a_chunk_of_channels(groups):
    layer, x = nn.Conv2d(12, 18, 3, 2, 1, groups=groups), torch.randn(2, 12, 9, 11)
    chunks = zip(x.chunk(groups, 1), layer.weight.chunk(groups), layer.bias.chunk(groups), strict=True)
    assert layer.weight.shape == (18, 12 // groups, 3, 3)
    torch.testing.assert_close(layer(x), torch.cat([F.conv2d(part, w, b, 2, 1) for part, w, b in chunks], 1))


@pytest.mark.system("depthwise-separable")
def test_it_is_a_kernel_a_channel_then_1x1():
    layer, x = DepthwiseSeparable(6, 10), torch.randn(2, 6, 8, 9)
    space, across = layer
    assert space.weight.shape == (6, 1, 3, 3)
    assert space.groups == 6
    assert across.weight.shape == (10, 6, 1, 1)
    each = torch.cat([F.conv2d(x[:, c : c + 1], space.weight[c : c + 1], padding=1) for c in range(6)], 1)
    torch.testing.assert_close(layer(x), torch.einsum("oc,bchw->bohw", across.weight[:, :, 0, 0], each))


@pytest.mark.system("depthwise-separable")
@pytest.mark.parametrize("outputs", [16, 64, 256, 1024])
def test_it_saves_as_much_as_the_formula_says(outputs):
    full, light = costs(nn.Conv2d(256, outputs, 3, padding=1, bias=False), 256), costs(DepthwiseSeparable(256, outputs), 256)
    ratio = 1 / (1 / outputs + 1 / 9)
    assert full.macs / light.macs == pytest.approx(ratio)
    assert full.parameters / light.parameters == pytest.approx(ratio)
    assert ratio < 9
    if outputs == 256:
        assert round(full.macs / light.macs, 2) == 8.69


@pytest.mark.system("depthwise-separable")
def test_stride_and_dilation():
    assert DepthwiseSeparable(4, 8, 5, stride=2)(torch.zeros(1, 4, 15, 16)).shape == (1, 8, 8, 8)
    assert DepthwiseSeparable(4, 8, dilation=3)(torch.zeros(1, 4, 15, 16)).shape == (1, 8, 15, 16)
