"""The channel-wise fully connected layer against a linear layer for each channel."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cvtool.layers.channel_fc import ChannelFC


@pytest.mark.system("context-encoder")
def test_it_has_c_hw_squared_weights_and_each_channel_its_own_matrix():
    torch.manual_seed(0)
    layer, x = ChannelFC(5, 3, 4), torch.randn(2, 5, 3, 4)
    assert sum(p.numel() for p in layer.parameters()) == 5 * (3 * 4) ** 2
    out = layer(x)
    for c in range(5):
        torch.testing.assert_close(out[:, c].flatten(1), F.linear(x[:, c].flatten(1), layer.weight[c]))


@pytest.mark.system("context-encoder")
def test_no_gradient_goes_across_channels_and_all_places_are_reached():
    torch.manual_seed(0)
    x = torch.randn(1, 5, 3, 4, requires_grad=True)
    ChannelFC(5, 3, 4)(x)[0, 2, 1, 1].backward()
    assert (x.grad[0, 2] != 0).all()
    assert torch.equal(x.grad[0, [0, 1, 3, 4]], torch.zeros(4, 3, 4))
