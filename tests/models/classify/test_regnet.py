"""RegNet: four free stages, legal groups only, torchvision's tensors."""

import pytest
import torch
from torchvision import models as tv

from cvtool.errors import UsageError
from cvtool.models.classify import regnet
from cvtool.tasks.train import plan

PUBLISHED = [name for name in regnet.VARIANTS if name != "tiny"]


def builder(variant):
    return f"regnet_{variant.replace('-', '_')}"


def test_the_published_facts_are_torchvisions_own(torchvisions):
    torchvisions("regnet", {name: builder(name) for name in PUBLISHED})


@pytest.mark.system("regnet")
@pytest.mark.parametrize("variant", PUBLISHED)
def test_the_published_sizes_have_torchvisions_tensors(variant, monkeypatch):
    """torchvision computes the stages from the paper's line (eq. 2 to 4), which is not possible on the meta device; here they are written out."""
    monkeypatch.setattr(tv.regnet, "_regnet", lambda params, *_, **__: params)
    params = tv.get_model(builder(variant))
    with torch.device("meta"):
        theirs, ours = tv.RegNet(params), regnet.build(classes=1000, **regnet.VARIANTS[variant])
    assert {k: v.shape for k, v in ours.net.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.system("regnet")
def test_parameters(parameters):
    assert parameters("regnet_x_400mf@none") == 5_495_976
    assert parameters("regnet_y_400mf@none") == 4_344_144


@pytest.mark.system("regnet")
@pytest.mark.parametrize("variant", ["x-400mf", "y-400mf"])
def test_torchvisions_weights_give_torchvisions_logits(same_as, variant):
    same_as(f"regnet.{variant}", tv.get_model(builder(variant), num_classes=5), classes=5)


@pytest.mark.system("regnet")
def test_depth_width_groups_and_bottleneck_of_each_stage_are_free():
    """Widths that do not double, depths, groups and ratios that all differ."""
    chosen = {"depths": (1, 3, 2, 1), "widths": (16, 24, 72, 56), "groups": (1, 3, 4, 14), "bottlenecks": (1.0, 2.0, 0.5, 4.0)}
    net = regnet.build(classes=3, **chosen).net
    for i, stage in enumerate(net.trunk_output):
        blocks = list(stage)
        assert len(blocks) == chosen["depths"][i]
        for j, block in enumerate(blocks):
            middle = block.f.b[0]
            assert block.f.c[0].out_channels == chosen["widths"][i]
            assert middle.groups == chosen["groups"][i]
            assert middle.in_channels == middle.out_channels == chosen["widths"][i] / chosen["bottlenecks"][i]
            assert middle.stride == ((2, 2) if j == 0 else (1, 1))
    x = net.trunk_output(net.stem(torch.randn(2, 3, 64, 64)))
    assert x.shape == (2, 56, 2, 2)


@pytest.mark.system("regnet")
def test_stages_are_typed_as_lists():
    typed = {"depths": "1,2,7,2", "widths": "64,128,288,672", "groups": "1,2,4,8", "bottlenecks": "1,1,1,0.5"}
    planned = plan("regnet", None, layers=[typed])
    assert planned.arguments == {
        "depths": [1, 2, 7, 2], "widths": [64, 128, 288, 672], "groups": [1, 2, 4, 8], "bottlenecks": [1, 1, 1, 0.5]
    }  # fmt: skip
    with torch.device("meta"):
        net = regnet.build(classes=3, **planned.arguments).net
    assert [len(stage) for stage in net.trunk_output] == [1, 2, 7, 2]


@pytest.mark.system("regnet")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"groups": (2, 5, 10, 25)}, "stage 2: 5 groups do not divide the 64 channels"),
        ({"groups": (2, 4, 10, 26)}, "stage 4: 26 groups do not divide the 400 channels"),
        ({"bottlenecks": (4.0, 1.0, 1.0, 1.0), "groups": (16, 4, 10, 25)}, "stage 1: 16 groups do not divide the 8 channels"),
        ({"bottlenecks": (3.0, 1.0, 1.0, 1.0)}, "stage 1: 2 groups do not divide the 10.6667 channels"),
        ({"depths": (1, 2, 7)}, "depths is four"),
        ({"widths": (32, 64, 160, 0)}, "widths is four"),
        ({"groups": (2, 4, 10, 2.5)}, "groups is four"),
        ({"bottlenecks": (1.0, 1.0, 0.0, 1.0)}, "bottlenecks is four"),
        ({"se_ratio": -4}, "se_ratio"),
    ],
)
def test_illegal_stages_are_refused_with_what_is_wrong(changes, said):
    with pytest.raises(UsageError) as error:
        regnet.build(classes=3, **changes)
    assert said in str(error.value)


@pytest.mark.system("regnet")
def test_the_refusal_names_the_nearest_groups_that_would_do():
    with pytest.raises(UsageError) as error:
        regnet.build(classes=3, groups=(2, 5, 10, 25))
    assert error.value.hint == "groups that do: 2, 4, 8"
