"""Gated convolution by its equation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cvtool.layers.gated_conv import GatedConv


@pytest.mark.system("deepfill-v2")
@pytest.mark.parametrize("phi", ["elu", "relu"])
def test_features_pass_as_far_as_their_gates_say(phi):
    """O = phi(F) * sigmoid(G), F and G of weights of their own."""
    torch.manual_seed(0)
    layer = GatedConv(3, 5, stride=2, dilation=2, activation=phi)
    x = torch.randn(2, 3, 12, 12)
    (wf, wg), (bf, bg) = layer.both.weight.split(5), layer.both.bias.split(5)
    features, gates = (F.conv2d(x, w, b, 2, 2, 2) for w, b in ((wf, bf), (wg, bg)))
    torch.testing.assert_close(layer(x), getattr(F, phi)(features) * gates.sigmoid())
    assert layer(x).shape == (2, 5, 6, 6)
    assert not torch.allclose(wf, wg)
    layer(x).sum().backward()
    assert not torch.allclose(*layer.both.weight.grad.split(5))


@pytest.mark.system("deepfill-v2")
def test_gates_and_features_are_learned_apart():
    """A gate that is shut lets nothing through whatever the feature, an open one all of it: for each channel and place."""
    layer = GatedConv(1, 2, 1, activation="relu")
    with torch.no_grad():
        layer.both.weight.copy_(torch.tensor([1.0, 1.0, 100.0, -100.0]).view(4, 1, 1, 1))
        layer.both.bias.zero_()
        out = layer(torch.tensor([[[[2.0, 3.0]]]]))
    torch.testing.assert_close(out, torch.tensor([[[[2.0, 3.0]], [[0.0, 0.0]]]]))


def test_what_goes_through_is_as_large_as_what_came_in():
    """However deep: of 12 layers, mean squares within a factor of the first's."""
    torch.manual_seed(0)
    x = torch.randn(4, 32, 16, 16)
    with torch.no_grad():
        for _ in range(12):
            x = GatedConv(32, 32, 1)(x)
    assert 0.2 < x.square().mean() < 5
