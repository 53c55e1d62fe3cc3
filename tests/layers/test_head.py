"""The ends of classifiers: global average, spatial pyramid, and that networks take them at any size."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvtool import categories, registry, weights
from cvtool.errors import UsageError
from cvtool.layers.classifier import Classifier
from cvtool.layers.head import GlobalAverage, pool
from cvtool.layers.spp import SpatialPyramidPooling

CLASSIFIERS = [name for name, entry in registry.catalogue().items() if entry.verb == "classify"]


def takes(name):
    return inspect.signature(registry.find(name).load().build).parameters


def built(name, wanted):
    """The `tiny` network with that head, or None for what is no network with such a choice."""
    if "head" not in takes(name):
        return None
    model = weights.build(f"{name}.tiny", categories=categories.numbered(5), head=wanted)
    return model.eval()


@pytest.mark.system("gap")
def test_seven_by_seven_by_2048_becomes_2048():
    x = torch.randn(2, 2048, 7, 7)
    pooled = GlobalAverage()(x)
    assert pooled.shape == (2, 2048)
    torch.testing.assert_close(pooled, F.adaptive_avg_pool2d(x, 1).flatten(1))
    module, features = pool("gap", 2048)
    assert isinstance(module, GlobalAverage)
    assert features == 2048  # what the one layer behind it reads, instead of 7 x 7 x 2048


@pytest.mark.system("gap")
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_any_classifier_takes_it_and_pictures_of_any_size(name):
    model = built(name, "gap")
    if model is None:
        model = weights.build(f"{name}.tiny", categories=categories.numbered(5))
        if not isinstance(model, Classifier):
            pytest.skip("no network of its own head")
        model.eval()  # its own end is an average already
    with torch.no_grad():
        for size in ((96, 96), (128, 96), (107, 123)):
            logits = model(torch.randn(2, 3, *size))
            assert logits.shape == (2, 5)
            assert logits.isfinite().all()


@pytest.mark.system("gap")
@pytest.mark.parametrize("name", ["resnet", "vit", "vgg"])
def test_it_learns(name):
    model = built(name, "gap").train()
    F.cross_entropy(model(torch.randn(4, 3, 64, 64)), torch.tensor([0, 1, 2, 3])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.system("spp")
@pytest.mark.parametrize("size", [(4, 4), (13, 13), (7, 10), (1, 1), (3, 50), (2, 5)])
def test_bins_1_2_4_are_21_values_a_map_at_any_size(size):
    layer = SpatialPyramidPooling()
    made = layer(torch.randn(2, 256, *size))
    assert made.shape == (2, 5376)
    assert layer.features(256) == 5376 == 256 * 21
    assert made.isfinite().all()


@pytest.mark.system("spp")
def test_each_value_is_the_maximum_of_its_bin():
    x = torch.randn(1, 2, 8, 12)
    made = SpatialPyramidPooling((1, 2, 4))(x)[0]
    expected = []
    for n in (1, 2, 4):
        for channel in x[0]:
            expected += [channel[i * 8 // n : (i + 1) * 8 // n, j * 12 // n : (j + 1) * 12 // n].max() for i in range(n) for j in range(n)]
    assert torch.equal(made, torch.stack(expected))


@pytest.mark.system("spp")
@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name != "squeezenet" and "head" in takes(name)])
def test_classifiers_take_the_pyramid_at_any_size(name):
    model = built(name, "spp")
    with torch.no_grad():
        assert model(torch.randn(1, 3, 96, 96)).shape == model(torch.randn(1, 3, 107, 130)).shape == (1, 5)


@pytest.mark.system("spp")
def test_the_pyramid_is_trained():
    torch.manual_seed(0)
    model = built("simple-cnn", "spp").train()
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8) % 5
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.3 * losses[0]


def test_flatten_knows_one_size_and_says_so():
    module, features = pool("flatten", 8, (4, 6))
    assert features == 192
    assert isinstance(module, nn.Flatten)
    with pytest.raises(UsageError, match="one size"):
        pool("flatten", 8)
    with pytest.raises(UsageError, match="unknown head") as caught:
        pool("gpa", 8)
    assert "gap" in caught.value.hint
