"""Wide ResNet: counts of the paper's and of torchvision's networks, and the order of a pre-activated block."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models as tv

from cvtool.errors import UsageError
from cvtool.models.classify import wide_resnet
from cvtool.models.classify.wide_resnet import PreActivation


def test_the_published_facts_are_torchvisions_own(torchvisions):
    torchvisions("wide-resnet", {"50-2": "wide_resnet50_2", "101-2": "wide_resnet101_2"})


@pytest.mark.system("wide-resnet")
@pytest.mark.parametrize(
    ("reference", "classes", "count"),
    [
        ("wrn-28-10", 10, 36_479_194),
        ("wrn-40-4", 10, 8_949_210),
        ("wide_resnet50_2@none", 1000, 68_883_240),
        ("wide_resnet101_2@none", 1000, 126_886_696),
    ],
)
def test_parameters(parameters, reference, classes, count):
    """WRN-40-4 has 8.9 million in the paper's table 4."""
    assert parameters(reference, classes=classes) == count


@pytest.mark.system("wide-resnet")
def test_torchvisions_weights_give_torchvisions_logits(same_as):
    model = same_as("wide-resnet.50-2", tv.wide_resnet50_2(num_classes=5), classes=5)
    assert all(block.conv2.out_channels == block.conv3.out_channels // 2 for block in model.net.blocks()), "the 3x3 is twice as wide"


@pytest.mark.system("wide-resnet")
def test_a_block_normalises_and_activates_before_it_filters():
    torch.manual_seed(0)
    for block in (PreActivation(8, 8, stride=1), PreActivation(8, 16, stride=2)):
        for norm in (block.bn1, block.bn2):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
        x = torch.randn(2, 8, 6, 6)
        with torch.no_grad():
            block.eval()
            active = F.relu(block.bn1(x))
            branch = block.conv2(F.relu(block.bn2(block.conv1(active))))
            shortcut = x if block.shortcut is None else block.shortcut(active)
            assert torch.allclose(block(x), branch + shortcut, atol=1e-6)
            assert block(x).min() < 0, "no ReLU after the sum"


@pytest.mark.system("wide-resnet")
def test_depth_and_width_make_the_stages():
    with torch.device("meta"):
        net = wide_resnet.build(classes=10, **wide_resnet.VARIANTS["28-10"]).net
        x = net.conv1(torch.empty(1, 3, 32, 32))
        shapes = [tuple((x := stage(x)).shape[1:]) for stage in (net.layer1, net.layer2, net.layer3)]
    assert shapes == [(160, 32, 32), (320, 16, 16), (640, 8, 8)]
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convolutions) + 3 == 28  # as the paper counts: the first, the blocks', and the three 1x1 on the shortcuts


@pytest.mark.parametrize(
    "changes", [{"form": "cifar", "depth": 27}, {"form": "cifar", "depth": 28, "width": 0}, {"depth": 34}, {"form": "imagenette"}]
)
def test_impossible_forms_are_refused(changes):
    with pytest.raises(UsageError):
        wide_resnet.build(classes=3, **changes)


def test_squeeze_and_excitation_where_it_has_an_effect(parameters):
    more = sum(count * (2 * c * (c // 16) + c // 16 + c) for count, c in ((3, 256), (4, 512), (6, 1024), (3, 2048)))
    assert parameters("wide-resnet.50-2", se_ratio=16) == 68_883_240 + more
    with pytest.raises(UsageError, match="no effect"):
        wide_resnet.build(classes=3, form="cifar", depth=10, se_ratio=4)
