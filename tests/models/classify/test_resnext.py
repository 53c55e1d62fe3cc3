"""ResNeXt: the drawn branches are one grouped convolution, and d for a given G costs what ResNet does."""

import pytest
import torch
from torch import nn
from torchvision import models as tv

from cvtool.errors import UsageError
from cvtool.models.classify import resnext
from cvtool.models.classify.resnext import Branches, matched_width

SMALL = resnext.VARIANTS["tiny"]


def test_the_published_facts_are_torchvisions_own(torchvisions):
    torchvisions("resnext", {"50-32x4d": "resnext50_32x4d", "101-32x8d": "resnext101_32x8d", "101-64x4d": "resnext101_64x4d"})


@pytest.mark.system("resnext")
@pytest.mark.parametrize(("reference", "count"), [("50-32x4d", 25_028_904), ("101-32x8d", 88_791_336), ("101-64x4d", 83_455_272)])
def test_parameters(parameters, reference, count):
    assert parameters(f"resnext.{reference}") == count


@pytest.mark.system("resnext")
def test_torchvisions_weights_give_torchvisions_logits(same_as):
    same_as("resnext.50-32x4d", tv.resnext50_32x4d(num_classes=5), classes=5)


def networks(**changes):
    out = []
    for form in ("grouped", "branch"):
        torch.manual_seed(0)
        out.append(resnext.build(classes=5, form=form, **SMALL | changes))
    return out


@pytest.mark.system("resnext")
@pytest.mark.parametrize("changes", [{}, {"stride_in": "1x1"}, {"se_ratio": 4}, {"groups": 1, "width": "8"}], ids=str)
def test_the_branch_form_equals_the_grouped_form(changes):
    """With mapped weights: in training (statistics of the batch) and in eval, and the gradients that reach the stem."""
    grouped, branch = networks(**changes)
    blocks = [m for m in branch.modules() if isinstance(m, Branches)]
    assert len(blocks) == 3
    assert all(len(block.branches) == changes.get("groups", 4) for block in blocks)
    assert all(m.groups == 1 for m in branch.modules() if isinstance(m, nn.Conv2d)), "no grouped convolution is left"
    x = torch.randn(4, 3, 32, 32)
    for training in (True, False):
        torch.testing.assert_close(branch.train(training)(x), grouped.train(training)(x), atol=1e-5, rtol=1e-4)
    for model in (grouped, branch):
        model.train()(x).square().sum().backward()
    torch.testing.assert_close(branch.net.conv1.weight.grad, grouped.net.conv1.weight.grad, atol=1e-4, rtol=1e-3)


@pytest.mark.system("resnext")
def test_both_forms_have_the_same_number_of_parameters():
    grouped, branch = (sum(p.numel() for p in model.parameters()) for model in networks())
    assert grouped == branch


@pytest.mark.system("resnext")
@pytest.mark.parametrize(("groups", "width"), [(1, 64), (2, 40), (4, 24), (8, 14), (32, 4)])
def test_auto_width_solves_the_quadratic_of_equal_cost(groups, width):
    """The paper's table 2."""
    assert matched_width(groups) == width
    resnet, ours = 2 * 256 * 64 + 9 * 64**2, groups * (2 * 256 * width + 9 * width**2)
    assert abs(ours / resnet - 1) < 0.03


@pytest.mark.system("resnext")
def test_auto_width_makes_a_network_that_costs_what_resnet_50_does(macs, parameters):
    with torch.device("meta"):
        auto = resnext.build(classes=1000, groups=32, width="auto")
        theirs = tv.resnet50()
    assert auto.net.layer1[0].conv2.out_channels == 32 * 4
    assert parameters("resnext.50-32x4d", width="auto") == 25_028_904
    assert abs(macs(auto.net, 224) / macs(theirs, 224) - 1) < 0.05


@pytest.mark.parametrize("changes", [{"width": "four"}, {"width": "0"}, {"groups": 0}, {"form": "forked"}, {"head": "gab"}])
def test_wrong_options_are_refused(changes):
    with pytest.raises(UsageError):
        resnext.build(classes=3, **SMALL | changes)
