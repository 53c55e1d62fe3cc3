"""EfficientNet: one coefficient for three dimensions, each dimension alone, torchvision's and timm's tensors, L2."""

from itertools import pairwise

import pytest
import torch
from torchvision import models as tv

from cvtool import weights
from cvtool.categories import numbered
from cvtool.errors import UsageError
from cvtool.models.classify import efficientnet
from cvtool.models.classify.efficientnet import ALPHA, BETA, GAMMA, compound

BUILDERS = {f"b{n}": f"efficientnet_b{n}" for n in range(8)}


def test_the_published_facts_are_torchvisions_own(torchvisions):
    torchvisions("efficientnet", BUILDERS)


def on_meta(reference="efficientnet.b0", **changes):
    with torch.device("meta"):
        return weights.build(reference, categories=numbered(1000), **changes)


@pytest.mark.system("efficientnet")
def test_parameters(parameters):
    counts = {"b0": 5_288_548, "b1": 7_794_184, "b2": 9_109_994, "b3": 12_233_232, "b7": 66_347_960}
    assert {name: parameters(f"efficientnet.{name}") for name in counts} == counts


@pytest.mark.system("efficientnet")
def test_torchvisions_weights_give_torchvisions_logits(same_as):
    same_as("efficientnet.b0", tv.efficientnet_b0(num_classes=5), classes=5)


@pytest.mark.parametrize("variant", ["b3", "b5"])
def test_the_larger_ones_are_torchvisions(variant):
    with torch.device("meta"):
        theirs = tv.get_model(BUILDERS[variant])
    ours = on_meta(f"efficientnet.{variant}").net
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    settings = [[(m.eps, m.momentum) for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)] for net in (ours, theirs)]
    assert settings[0] == settings[1]
    assert ours.classifier[0].p == theirs.classifier[0].p
    drops = [[m.p for m in net.modules() if type(m).__name__ == "StochasticDepth"] for net in (ours, theirs)]
    assert drops[0] == drops[1]


@pytest.mark.system("efficientnet")
def test_the_factors_of_the_compound_coefficient():
    assert (ALPHA, BETA, GAMMA) == (1.2, 1.1, 1.15)
    assert min(ALPHA, BETA, GAMMA) >= 1
    assert abs(ALPHA * BETA**2 * GAMMA**2 - 2) < 0.1
    assert compound(0) == (1, 1, 1)
    assert compound(3) == pytest.approx((1.2**3, 1.1**3, 1.15**3))


@pytest.mark.system("efficientnet")
def test_the_cost_doubles_with_each_unit_of_phi(macs):
    """1.92 a unit. Blocks are rounded upwards, which costs most at the first step (2.57 times B0) and evens out after it (16.4 times at 4)."""
    cost = []
    for phi in range(5):
        model = on_meta(phi=float(phi))
        assert model.prepare.size == round(224 * GAMMA**phi)
        cost.append(macs(model.net, model.prepare.size))
    assert cost[0] == pytest.approx(386e6, rel=0.02)  # .39 G in table 2
    assert all(1.75 < large / small < 2 for small, large in pairwise(cost[1:]))
    assert [c / cost[0] for c in cost] == pytest.approx([1, 2, 4, 8, 16], rel=0.3)


@pytest.mark.system("efficientnet")
def test_each_dimension_can_be_scaled_alone(macs):
    """Linear in depth, quadratic in width and resolution."""
    base = on_meta()
    cost = macs(base.net, 224)
    deep, wide, large = on_meta(scale_depth=2.0), on_meta(scale_width=2.0), on_meta(scale_res=2.0)

    def shape(model):
        stages = list(model.net.features)[1:-1]
        return [len(stage) for stage in stages], [stage[-1].out_channels for stage in stages], model.prepare.size

    blocks, channels, size = shape(base)
    assert shape(deep) == ([2 * n for n in blocks], channels, size)
    assert shape(wide) == (blocks, [2 * n for n in channels], size)
    assert shape(large) == (blocks, channels, 448)
    assert macs(deep.net, 224) / cost == pytest.approx(2, rel=0.15)
    assert macs(wide.net, 224) / cost == pytest.approx(4, rel=0.15)
    assert macs(large.net, 448) / cost == pytest.approx(4, rel=0.01)


@pytest.mark.parametrize("changes", [{"scale_width": 0.0}, {"scale_depth": -1.0}, {"scale_res": 0.0}, {"padding": "valid"}])
def test_wrong_factors_are_refused(changes):
    with pytest.raises(UsageError):
        on_meta(**changes)


# ---- L2 ------------------------------------------------------------------------------------------------------------


@pytest.mark.system("efficientnet-l2")
def test_l2_has_480_million_parameters_and_timms_tensors(parameters):
    import timm

    model = on_meta("efficientnet.l2")
    assert sum(p.numel() for p in model.parameters()) == 480_309_308
    assert parameters("efficientnet.l2", padding="even") == 480_309_308  # torchvision's module comes to the same
    facts = efficientnet.VARIANTS["l2"]
    assert (facts["width"], facts["depth"], model.prepare.size) == (4.3, 5.3, 800)
    with torch.device("meta"):
        theirs = timm.create_model("tf_efficientnet_l2")
    assert {k: v.shape for k, v in model.net.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    cfg = timm.get_pretrained_cfg("tf_efficientnet_l2.ns_jft_in1k")
    assert cfg.url == efficientnet.WEIGHTS["l2@imagenet-noisy-student"]["url"]
    assert (cfg.crop_pct, cfg.input_size[-1], cfg.interpolation) == (model.prepare.crop_fraction, model.prepare.size, model.prepare.interpolation)


@pytest.mark.system("efficientnet-l2")
def test_a_narrow_copy_of_l2_runs(same_as):
    """The same factors of depth, a fiftieth of the width: as many blocks as L2, forward and backward."""
    from timm.models.efficientnet import _gen_efficientnet

    theirs = _gen_efficientnet(
        "tf_efficientnet_l2", channel_multiplier=4.3 / 50, depth_multiplier=5.3 / 5, num_classes=5, pad_type="same", bn_eps=1e-3
    )
    model = same_as("efficientnet.l2", theirs, size=50, classes=5, scale_width=1 / 50, scale_depth=1 / 5, scale_res=0.08)
    assert model.prepare.size == 64
    batch = model.prepare([torch.randint(0, 256, (70, 90, 3), dtype=torch.uint8)] * 2)
    assert model.embed(batch).shape[0] == 2
    model.train()(batch.images).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    full, narrow = on_meta("efficientnet.l2"), on_meta("efficientnet.l2", scale_width=1 / 50)
    assert [len(stage) for stage in narrow.net.blocks] == [len(stage) for stage in full.net.blocks]
