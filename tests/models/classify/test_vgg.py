"""VGG: the paper's table layer by layer, torchvision's tensors, every layer by name."""

import pytest
import torch

from cvtool import registry, weights
from cvtool.categories import numbered
from cvtool.models.classify import vgg
from cvtool.runtime.torchvision import cheap_import


def on_meta(reference):
    with torch.device("meta"):
        return weights.build(registry.parse(reference), categories=numbered(1000))


@pytest.mark.system("vgg-16")
def test_every_layer_has_the_count_of_the_table():
    net = on_meta("vgg16@none").net
    counts = [sum(p.numel() for p in module.parameters()) for module in net.modules() if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear))]
    assert counts == [
        1792, 36928, 73856, 147584, 295168, 590080, 590080, 1180160, 2359808, 2359808, 2359808, 2359808, 2359808, 102764544, 16781312, 4097000,
    ]  # fmt: skip
    assert sum(counts) == sum(p.numel() for p in net.parameters()) == 138_357_544


@pytest.mark.system("vgg-16")
def test_five_poolings_bring_224_to_7():
    net = on_meta("vgg16@none").net
    x = torch.empty(1, 3, 224, 224, device="meta")
    sides = []
    for module in net.features:
        x = module(x)
        if isinstance(module, torch.nn.MaxPool2d):
            sides.append(x.shape[-1])
    assert sides == [112, 56, 28, 14, 7]
    assert net.avgpool(x).flatten(1).shape == (1, 25088)


@pytest.mark.parametrize(
    ("reference", "theirs"),
    [
        pytest.param("vgg16@none", "vgg16", marks=pytest.mark.system("vgg-16")),
        pytest.param("vgg19@none", "vgg19", marks=pytest.mark.system("vgg-19")),
        ("vgg16-bn@none", "vgg16_bn"),
        ("vgg.11@none", "vgg11"),
    ],
)
def test_tensors_are_those_of_torchvision(reference, theirs):
    with cheap_import():
        from torchvision.models import get_model
    with torch.device("meta"):
        other = get_model(theirs, weights=None)
    own = on_meta(reference)
    wanted = vgg.rename(other.state_dict())
    assert {key: value.shape for key, value in own.state_dict().items()} == {key: value.shape for key, value in wanted.items()}


@pytest.mark.system("vgg-16")
def test_copied_weights_give_torchvisions_logits():
    """With narrow full layers in both, because a hundred million random numbers take a second."""
    with cheap_import():
        from torchvision.models import vgg16
    torch.manual_seed(0)
    other = vgg16(weights=None, init_weights=False, num_classes=7).eval()
    other.classifier = torch.nn.Sequential(
        torch.nn.Linear(25088, 32), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Dropout(),
        torch.nn.Linear(32, 7),
    ).eval()  # fmt: skip
    own = vgg.build(classes=7, hidden=32).eval()
    own.load_state_dict(vgg.rename(other.state_dict()))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.allclose(own(images), other(images), atol=1e-6)


@pytest.mark.system("vgg-19")
def test_sixteen_convolutions_and_five_poolings_by_name():
    net = on_meta("vgg19@none").net
    convolutions = [name for name in net.layers if name.startswith("conv")]
    assert convolutions == [f"conv{stage}_{i}" for stage, count in enumerate((2, 2, 4, 4, 4), 1) for i in range(1, count + 1)]
    assert [name for name in net.layers if name.startswith("pool")] == [f"pool{i}" for i in range(1, 6)]
    for name, place in net.layers.items():
        kind = {"conv": torch.nn.Conv2d, "relu": torch.nn.ReLU, "pool": torch.nn.MaxPool2d}[name[:4]]
        assert isinstance(net.get_submodule(place), kind)
    assert net.get_submodule(net.layers["conv5_4"]).out_channels == 512
    assert sum(p.numel() for p in net.parameters()) == 143_667_240


@pytest.mark.parametrize("head", ["gap", "spp"])
def test_other_heads_take_any_size(head):
    model = vgg.build(classes=3, head=head, **vgg.VARIANTS["tiny"]).eval()
    assert model(torch.rand(2, 3, 64, 64)).shape == model(torch.rand(2, 3, 96, 128)).shape == (2, 3)
