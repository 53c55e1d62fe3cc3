"""Atrous spatial pyramid pooling in both forms."""

import pytest
import torch
from torch import nn
from torchvision.models.segmentation import deeplabv3

from cvtool import categories, weights
from cvtool.errors import UsageError
from cvtool.layers.aspp import ASPP, RATES_V2, RATES_V3, ASPPv2, rates_at


def shaken(module):
    """Norms with statistics of their own, so that one that is not asked shows."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1, 0.2), nn.init.normal_(part.bias, 0, 0.2)
            part.running_mean.normal_(0, 0.2), part.running_var.uniform_(0.5, 1.5)
    return module.eval()


@pytest.mark.system("aspp")
def test_v3_is_torchvisions_with_copied_weights():
    theirs = shaken(deeplabv3.ASPP(12, [6, 12, 18], 8))
    ours = ASPP(12, 8, rates=(6, 12, 18)).eval()
    ours.load_state_dict(theirs.state_dict())  # key for key
    x = torch.randn(2, 12, 21, 33)
    assert ours(x).shape == (2, 8, 21, 33)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.system("aspp")
@pytest.mark.parametrize(("variant", "rates"), [("resnet50", (12, 24, 36)), ("resnet50-s16", (6, 12, 18))])
def test_deeplab_v3_reads_with_it_at_both_strides(variant, rates):
    with torch.device("meta"):
        head = weights.build(f"deeplab-v3.{variant}", categories=categories.numbered(21)).classifier[0]
        theirs = deeplabv3.ASPP(2048, rates)
    assert isinstance(head, ASPP)
    assert {key: value.shape for key, value in head.state_dict().items()} == {key: value.shape for key, value in theirs.state_dict().items()}
    assert tuple(branch[0].dilation[0] for branch in head.convs[1:4]) == rates


@pytest.mark.system("aspp")
def test_v3_is_1x1_three_rates_and_the_image_concatenated_then_1x1():
    layer = shaken(ASPP(6, 4))
    assert [tuple(branch[0].dilation) for branch in layer.convs[1:4]] == [(6, 6), (12, 12), (18, 18)]
    assert layer.convs[0][0].kernel_size == (1, 1)
    x = torch.randn(1, 6, 20, 20)
    branches = [branch(x) for branch in layer.convs]
    assert torch.equal(layer(x), layer.project(torch.cat(branches, 1)))
    assert layer.project[0].weight.shape == (4, 5 * 4, 1, 1)
    image = branches[-1]
    torch.testing.assert_close(image, image[:, :, :1, :1].expand_as(image))  # one value a channel, everywhere


@pytest.mark.system("aspp")
def test_rates_double_at_an_output_stride_of_8():
    assert rates_at(16) == RATES_V3 == (6, 12, 18)
    assert rates_at(8) == (12, 24, 36)
    with pytest.raises(UsageError, match="8 or 16"):
        rates_at(32)


@pytest.mark.system("aspp")
def test_v2_sums_four_dilated_branches():
    layer = ASPPv2(5, 3, hidden=8).eval()
    assert RATES_V2 == (6, 12, 18, 24)
    assert [branch[0].dilation[0] for branch in layer.branches] == [6, 12, 18, 24]
    x = torch.randn(2, 5, 19, 27)
    assert layer(x).shape == (2, 3, 19, 27)
    torch.testing.assert_close(layer(x), sum(branch(x) for branch in layer.branches))


@pytest.mark.system("aspp")
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (25, 7)])
@pytest.mark.parametrize("kind", [ASPP, ASPPv2])
def test_height_and_width_stay_and_the_gradient_arrives(kind, size):
    layer = kind(4, 3, rates=(2, 4)) if kind is ASPP else kind(4, 3, rates=(2, 4), hidden=4)
    layer.train()
    y = layer(torch.randn(2, 4, *size))
    assert y.shape == (2, 3, *size)
    y.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
