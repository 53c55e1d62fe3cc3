"""MobileNetV2: the table row by row, and linear between blocks."""

import pytest
import torch
from torch import nn
from torchvision import models as tv
from torchvision.models.mobilenetv2 import InvertedResidual

from cvtool.errors import UsageError
from cvtool.models.classify import mobilenet_v2

# table 2: side and channels in, operator, t, c, n, s
TABLE = [
    (224, 3, "conv", None, 32, 1, 2), (112, 32, "block", 1, 16, 1, 1), (112, 16, "block", 6, 24, 2, 2), (56, 24, "block", 6, 32, 3, 2),
    (28, 32, "block", 6, 64, 4, 2), (14, 64, "block", 6, 96, 3, 1), (14, 96, "block", 6, 160, 3, 2), (7, 160, "block", 6, 320, 1, 1),
    (7, 320, "conv", None, 1280, 1, 1),
]  # fmt: skip


def test_the_published_facts_are_torchvisions_own(torchvisions):
    torchvisions("mobilenet-v2", {"100": "mobilenet_v2"})


@pytest.mark.system("mobilenet-v2")
def test_parameters(parameters):
    assert parameters("mobilenet_v2@none") == 3_504_872
    assert parameters("mobilenetv2_140@none") == 6_108_776  # timm's mobilenetv2_140


@pytest.mark.system("mobilenet-v2")
def test_torchvisions_weights_give_torchvisions_logits(same_as):
    same_as("mobilenet-v2.100", tv.mobilenet_v2(num_classes=5), classes=5)


@pytest.mark.system("mobilenet-v2")
def test_the_table_row_by_row():
    with torch.device("meta"):
        net = mobilenet_v2.build(classes=1000).net
        x = torch.empty(1, 3, 224, 224)
    layers = iter(net.features)
    for side, channels, operator, t, c, n, s in TABLE:
        for i in range(n):
            assert x.shape[1:] == (channels if i == 0 else c, side // (s if i else 1), side // (s if i else 1))
            layer = next(layers)
            if operator == "block":
                convolutions = [m for m in layer.modules() if isinstance(m, nn.Conv2d)]
                middle = convolutions[-2]
                assert middle.kernel_size == (3, 3)
                assert middle.groups == middle.in_channels == t * x.shape[1]
                assert middle.stride == (s if i == 0 else 1,) * 2, "the stride stands in the middle 3x3"
                assert all(m.stride == (1, 1) for m in convolutions if m is not middle)
                assert layer.use_res_connect == (i > 0)
            x = layer(x)
        assert x.shape[1:] == (c, side // s, side // s)
    assert next(layers, None) is None
    assert net.classifier[-1].weight.shape == (1000, 1280)


@pytest.mark.system("mobilenet-v2")
def test_no_activation_after_the_last_1x1():
    """A block ends in a convolution and its norm: what it adds is linear in the last weights, and negative values leave it."""
    torch.manual_seed(0)
    model = mobilenet_v2.build(classes=3, **mobilenet_v2.VARIANTS["tiny"]).eval()
    blocks = [m for m in model.modules() if isinstance(m, InvertedResidual)]
    assert blocks
    for block in blocks:
        assert isinstance(block.conv[-2], nn.Conv2d)
        assert isinstance(block.conv[-1], nn.BatchNorm2d)
        x = torch.randn(1, next(m for m in block.modules() if isinstance(m, nn.Conv2d)).in_channels, 8, 8)
        with torch.no_grad():
            once = block.conv(x)
            block.conv[-2].weight.mul_(-2)
            assert torch.allclose(block.conv(x), -2 * once, atol=1e-5)  # any clamp would break it
        assert once.min() < 0 < once.max()


@pytest.mark.parametrize("changes", [{"width": 0.0}, {"table": ()}, {"table": ((6, 24, 2),)}, {"table": ((6, 24, 2, 3),)}])
def test_wrong_tables_are_refused(changes):
    with pytest.raises(UsageError):
        mobilenet_v2.build(classes=3, **changes)
