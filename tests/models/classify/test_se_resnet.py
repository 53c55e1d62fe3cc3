"""SE-ResNet: timm's networks name by name, and gates at the end of every branch."""

import math

import pytest
import torch

from cvtool.errors import UsageError
from cvtool.models.classify import se_resnet
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    import timm


@pytest.mark.system("se-resnet")
@pytest.mark.parametrize(("reference", "count"), [("seresnet50", 28_088_024), ("seresnext50_32x4d", 27_559_896)])
def test_parameters(parameters, reference, count):
    assert parameters(f"{reference}@none") == count


@pytest.mark.system("se-resnet")
@pytest.mark.parametrize(("variant", "name"), [("50", "seresnet50"), ("next50-32x4d", "seresnext50_32x4d")])
def test_timms_weights_give_timms_logits(same_as, variant, name):
    same_as(f"se-resnet.{variant}", timm.create_model(name, num_classes=5, zero_init_last=False), classes=5)


@pytest.mark.parametrize(
    ("variant", "name"),
    [("101", "seresnet101"), ("152", "seresnet152"), ("next101-32x4d", "seresnext101_32x4d"), ("next101-32x8d", "seresnext101_32x8d")],
)
def test_the_others_have_timms_tensors(variant, name):
    """Not 18 and 34: timm rounds their 4 hidden units, 64 / 16, up to 8, and has no weights of them."""
    with torch.device("meta"):
        theirs, ours = timm.create_model(name), se_resnet.build(classes=1000, **se_resnet.VARIANTS[variant])
    assert {k: v.shape for k, v in ours.net.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize("key", list(se_resnet.WEIGHTS))
def test_the_published_facts_are_timms_own(key):
    facts = se_resnet.WEIGHTS[key]
    name = {"50": "seresnet50.ra2_in1k", "next50-32x4d": "seresnext50_32x4d.racm_in1k", "next101-32x4d": "seresnext101_32x4d.gluon_in1k"}
    cfg = timm.get_pretrained_cfg(name[key.partition("@")[0]])
    assert facts["url"] == cfg.url
    assert facts["sha256"] in facts["url"]
    assert facts["licence"].lower() == cfg.license
    with torch.device("meta"):
        prepare = se_resnet.build(classes=2, **se_resnet.VARIANTS[key.partition("@")[0]] | facts["arguments"]).prepare
    size, crop = (cfg.test_input_size or cfg.input_size)[-1], cfg.test_crop_pct or cfg.crop_pct
    assert prepare.size == size
    assert round(size / prepare.crop_fraction) == math.floor(size / crop)
    assert prepare.interpolation == cfg.interpolation
    assert (prepare.mean, prepare.std) == (cfg.mean, cfg.std)


@pytest.mark.system("se-resnet")
def test_every_branch_ends_in_gates_between_0_and_1():
    torch.manual_seed(0)
    model = se_resnet.build(classes=3, **se_resnet.VARIANTS["tiny"]).eval()
    for block in model.net.blocks():
        y = torch.randn(2, block.conv2.out_channels, 4, 4) * 10
        gates = block.se.gates(y)
        assert gates.shape == (2, block.conv2.out_channels, 1, 1)
        assert ((gates > 0) & (gates < 1)).all()
        assert torch.equal(block.se(y), y * gates)
        assert block.se.fc1.out_channels == block.conv2.out_channels // 4


def test_without_a_ratio_it_is_another_model():
    with pytest.raises(UsageError, match="se_ratio"):
        se_resnet.build(classes=3, se_ratio=0)
    with pytest.raises(UsageError, match="bottlenecks"):
        se_resnet.build(classes=3, block="basic", groups=4)
