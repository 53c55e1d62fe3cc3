"""Normalisations by name: what each takes its statistics over, and that nothing else depends on it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

from cvtool import categories, weights
from cvtool.errors import UsageError
from cvtool.layers import norm as module
from cvtool.layers.norm import norm

OVER = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3)}


def made(name, channels, seed=0):
    layer = norm(name, channels)
    torch.manual_seed(seed)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


@pytest.mark.system("batch-norm")
@pytest.mark.system("layer-norm")
@pytest.mark.system("instance-norm")
@pytest.mark.parametrize("name", OVER)
def test_each_is_gamma_times_the_deviations_plus_beta(name):
    layer, x = made(name, 6), 3 + 2 * torch.randn(4, 6, 5, 7)
    mean, variance = x.mean(OVER[name], keepdim=True), x.var(OVER[name], correction=0, keepdim=True)
    expected = layer.weight[:, None, None] * (x - mean) / (variance + 1e-5).sqrt() + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.system("batch-norm")
def test_32_maps_of_ten_pictures_have_32_means_and_variances():
    layer, x = norm("batch", 32), 1 + torch.randn(10, 32, 6, 6)
    layer(x)
    assert layer.running_mean.shape == layer.running_var.shape == (32,)
    torch.testing.assert_close(layer.running_mean, 0.1 * x.mean((0, 2, 3)))
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * x.var((0, 2, 3)))  # the unbiased one is remembered


@pytest.mark.system("batch-norm")
def test_at_evaluation_the_running_statistics_are_used():
    layer, x = made("batch", 4), torch.randn(3, 4, 5, 5)
    for _ in range(3):
        layer(5 + 2 * torch.randn(8, 4, 5, 5))
    layer.eval()
    deviation = (layer.running_var + 1e-5).sqrt()
    shape = (4, 1, 1)
    expected = layer.weight.view(shape) * (x - layer.running_mean.view(shape)) / deviation.view(shape) + layer.bias.view(shape)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x)[:1], layer(x[:1]))  # a picture's answer does not depend on its batch


class Whole(fx.Tracer):
    """Does not look into our own layers."""

    def is_leaf_module(self, m, name):
        return isinstance(m, nn.BatchNorm2d) or type(m).__module__.startswith("cvtool.layers") or super().is_leaf_module(m, name)


@pytest.mark.system("batch-norm")
@pytest.mark.parametrize("reference", ["resnet.tiny", "simple-cnn.tiny"])
def test_it_stands_before_the_non_linearity(reference):
    net = weights.build(reference, categories=categories.numbered(3)).net
    traced = Whole().trace(net)
    modules = dict(net.named_modules())

    def rectified(node):
        """Whether every way on from the node leads through additions alone to a ReLU, or to the shortcut's sum."""
        ways = []
        for user in node.users:
            called = modules.get(user.target) if user.op == "call_module" else None
            plain = (
                isinstance(called, nn.Identity) or type(called).__name__ == "StochasticDepth" or user.name.startswith(("add", "iadd", "drop_path"))
            )
            ways.append(isinstance(called, nn.ReLU) or "relu" in user.name or (plain and rectified(user)))
        return bool(ways) and all(ways)

    norms = [node for node in traced.nodes if node.op == "call_module" and isinstance(modules[node.target], nn.BatchNorm2d)]
    assert len(norms) >= 2
    for node in norms:
        (before,) = node.all_input_nodes
        assert isinstance(modules[before.target], nn.Conv2d), "it follows its convolution at once"
        assert rectified(node), node.name


@pytest.mark.system("batch-norm")
@pytest.mark.parametrize("reference", ["unet.tiny", "simple-cnn.tiny"])
@pytest.mark.parametrize("name", module.NAMES)
def test_a_network_takes_each_or_none(reference, name):
    model = weights.build(reference, categories=categories.numbered(3), norm=name)
    kinds = {"batch": nn.BatchNorm2d, "layer": nn.GroupNorm, "group": nn.GroupNorm, "instance": nn.InstanceNorm2d}
    found = [m for m in model.modules() if isinstance(m, tuple(set(kinds.values())))]
    if name == "none":
        assert not found
        assert all(m.bias is not None for m in model.modules() if isinstance(m, nn.Conv2d))
    else:
        assert found
        assert all(isinstance(m, kinds[name]) for m in found)
    batch = model.prepare([torch.randint(0, 255, (64, 64, 3), dtype=torch.uint8)] * 2)
    assert len(model.eval().predict(batch)) == 2


@pytest.mark.system("batch-norm")
@pytest.mark.parametrize("name", ["batch", "none", "instance"])
def test_a_gan_has_a_switch_for_it(name):
    model = weights.build("dcgan.tiny", categories=categories.numbered(3), norm=name)
    for player in (model.generator, model.discriminator):
        assert any(isinstance(m, nn.BatchNorm2d) for m in player) == (name == "batch")
    assert model.sample(2, 0).shape == (2, 3, 16, 16)


@pytest.mark.system("layer-norm")
@settings(max_examples=25)
@given(st.integers(0, 100), st.integers(1, 5))
def test_layer_norm_is_the_same_in_training_and_for_a_batch_of_one(seed, count):
    layer, x = made("layer", 4), torch.randn(count, 4, 3, 5, generator=torch.Generator().manual_seed(seed))
    y = layer.train()(x)
    assert torch.equal(y, layer.eval()(x))
    torch.testing.assert_close(torch.cat([layer(one[None]) for one in x]), y)
    plain = norm("layer", 4, affine=False)(x).flatten(1)
    torch.testing.assert_close(plain.mean(1), torch.zeros(count), atol=1e-5, rtol=0)
    torch.testing.assert_close(plain.var(1, correction=0), torch.ones(count), atol=1e-3, rtol=0)


@pytest.mark.system("layer-norm")
def test_of_tokens_it_is_taken_over_the_features():
    from cvtool.layers.transformer import EncoderLayer

    layer, x = EncoderLayer(8, 2).norm1, 2 + 3 * torch.randn(1, 5, 8)
    nn.init.normal_(layer.weight), nn.init.normal_(layer.bias)
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    expected = layer.weight * (x - mean) / (variance + layer.eps).sqrt() + layer.bias
    torch.testing.assert_close(layer(x), expected)
    assert torch.equal(layer.train()(x), layer.eval()(x))


@pytest.mark.system("instance-norm")
@settings(max_examples=25)
@given(st.floats(0.2, 5), st.floats(-3, 3), st.integers(0, 50))
def test_instance_norm_does_not_see_contrast_or_brightness(contrast, brightness, seed):
    layer, x = made("instance", 3), torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(layer(contrast * x + brightness), layer(x), atol=2e-3, rtol=1e-3)
    each = x * torch.tensor([contrast, 1.0, 2.0]).view(3, 1, 1)  # and each channel has its own
    torch.testing.assert_close(layer(each), layer(x), atol=2e-3, rtol=1e-3)
    assert not torch.allclose(norm("layer", 3)(each), norm("layer", 3)(x), atol=1e-2) or abs(contrast - 1) < 0.5


@pytest.mark.system("instance-norm")
def test_instance_norm_looks_at_one_sample_and_is_the_same_in_both_modes():
    layer, x = made("instance", 3), torch.randn(4, 3, 6, 6)
    torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]))
    assert torch.equal(layer.train()(x), layer.eval()(x))


def test_group_norm_takes_groups_that_divide_the_channels():
    assert norm("group", 64).num_groups == 32
    assert norm("group", 48).num_groups == 24
    assert norm("group", 7).num_groups == 7
    assert torch.equal(norm("none", 3)(torch.ones(1)), torch.ones(1))


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(UsageError, match="unknown normalisation") as caught:
        norm("bacth", 3)
    assert "batch" in caught.value.hint
