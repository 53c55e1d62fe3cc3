"""The simple CNN: its order, its options, and why small kernels are stacked."""

import pytest
import torch
from torch import nn

from cvtool.errors import UsageError
from cvtool.models.classify import simple_cnn


def field(net: nn.Module, channels: int, side: int = 31) -> int:
    """Side of the receptive field of the middle output, by the gradient."""
    x = torch.zeros(1, channels, side, side, requires_grad=True)
    net(x)[0, :, side // 2, side // 2].sum().backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    return int(rows.max() - rows.min()) + 1


def linear(stack: int, kernel: int) -> nn.Module:
    """The convolutions of a block, without what would stop a gradient by chance."""
    block = simple_cnn.Block(4, 4, kernel=kernel, stack=stack, norm="none", pool="none")
    for module in block:
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    return nn.Sequential(*(module for module in block if isinstance(module, nn.Conv2d)))


@pytest.mark.system("simple-cnn")
def test_order_of_a_block():
    block = simple_cnn.Block(3, 8, kernel=3, stack=1, norm="batch", pool="max")
    names = [type(module).__name__ for module in block]
    assert names == ["Conv2d", "BatchNorm", "ReLU", "Down"]
    assert block(torch.rand(2, 3, 16, 16)).shape == (2, 8, 8, 8)


@pytest.mark.system("simple-cnn")
def test_three_small_kernels_see_what_a_large_one_sees_with_fewer_weights():
    small, large = linear(3, 3), linear(1, 7)
    assert field(small, 4) == field(large, 4) == 7
    weights = [sum(p.numel() for p in net.parameters() if p.ndim > 1) for net in (small, large)]
    assert weights == [27 * 16, 49 * 16]


@pytest.mark.system("simple-cnn")
@pytest.mark.parametrize(
    ("option", "value"),
    [("depth", 3), ("kernel", 5), ("width", 12), ("norm", "instance"), ("norm", "none"), ("pool", "avg"), ("pool", "stride"), ("pool", "none"),
     ("stack", 2), ("head", "spp"), ("head", "flatten")],
)  # fmt: skip
def test_each_is_an_option(option, value):
    default = simple_cnn.build(classes=3, **simple_cnn.VARIANTS["tiny"])
    model = simple_cnn.build(classes=3, **(simple_cnn.VARIANTS["tiny"] | {option: value}))
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    assert str(model) != str(default)


@pytest.mark.parametrize("options", [{"kernel": 4}, {"depth": 6}, {"norm": "bach"}])
def test_what_cannot_be_built_is_refused(options):
    with pytest.raises(UsageError):
        simple_cnn.build(classes=3, **(simple_cnn.VARIANTS["tiny"] | options))
