"""Losses that look through a trained network: perceptual, style, identity."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvtool import losses, weights
from cvtool.batch import Prepare
from cvtool.errors import ModelError, UsageError
from cvtool.layers.classifier import Classifier
from cvtool.layers.features import Features, places
from cvtool.losses.gram_style import gram, gram_style, layer_loss
from cvtool.losses.identity import identity
from cvtool.losses.perceptual import perceptual


@pytest.fixture
def features(small_network):
    return Features.load(small_network)


@pytest.fixture
def pair():
    draw = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 24, 32, generator=draw), torch.rand(2, 3, 24, 32, generator=draw)


def by_hand(features, pictures, name):
    """The map of a layer, layer after layer, as the network was trained to see pictures."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (features.prepare.mean, features.prepare.std))
    x = (pictures - mean) / std
    for key, module in features.model.net.features.named_children():
        x = module(x)
        if f"features.{key}" == features.places[name]:
            return x
    raise AssertionError(name)


@pytest.mark.system("perceptual")
def test_layers_by_name_are_the_networks_own_maps(features, pair):
    maps = features(pair[0], ["relu2_1", "conv1_1", "pool3"])
    for name, found in zip(["relu2_1", "conv1_1", "pool3"], maps, strict=True):
        torch.testing.assert_close(found, by_hand(features, pair[0], name), msg=name)
    assert (maps[1] < 0).any()  # a convolution's map is not overwritten by what rectifies it
    assert (maps[0] >= 0).all()
    torch.testing.assert_close(features(pair[0][:, :1], ["conv1_1"])[0], features(pair[0][:, :1].expand(-1, 3, -1, -1), ["conv1_1"])[0])


@pytest.mark.system("perceptual")
@pytest.mark.parametrize("reference", ["vgg16@none", "vgg19@none"])
def test_the_papers_networks_have_the_papers_layers(reference):
    from cvtool import registry

    model = weights.build(registry.parse(reference.partition("@")[0]), categories=[{"id": 0, "name": "a"}], hidden=8)
    deep = Features(model)
    counts = {"vgg16@none": (2, 2, 3, 3, 3), "vgg19@none": (2, 2, 4, 4, 4)}[reference]
    assert [name for name in deep.places if name.startswith("relu")] == [f"relu{i}_{j}" for i, n in enumerate(counts, 1) for j in range(1, n + 1)]
    (found,) = deep(torch.rand(1, 3, 16, 16), ["relu2_2"])
    assert found.shape == (1, 128, 8, 8)


@pytest.mark.system("perceptual")
def test_resnets_are_asked_by_their_modules(pair):
    with pytest.raises(UsageError, match="no layer 'layer9'"):
        Features.load("resnet.20@none").module("layer9")
    found = Features.load("timm:resnet10t@none")(pair[0], ["layer1", "layer2.0"])
    assert [m.shape[1] for m in found] == [64, 128]


@pytest.mark.system("perceptual")
def test_perceptual_is_the_mean_squared_difference_of_maps(features, pair):
    a, b = pair
    expected = 0.0
    for name in ("relu1_1", "relu2_1"):
        own, theirs = (by_hand(features, x, name) for x in (a, b))
        c, h, w = own.shape[1:]
        expected += sum(((own[i] - theirs[i]) ** 2).sum().item() / (c * h * w) for i in range(2)) / 2
    assert perceptual(a, b, features=features, layers=["relu1_1", "relu2_1"]).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.system("perceptual")
def test_perceptual_is_zero_for_equal_pictures_and_its_gradient_reaches_the_prediction_alone(features, pair):
    a, b = (x.clone().requires_grad_() for x in pair)
    assert perceptual(a, a.detach(), features=features, layers=["relu2_1"]).item() == 0
    perceptual(a, b, features=features, layers=["relu2_1"]).backward()
    assert a.grad.abs().sum() > 0
    assert b.grad is None
    assert all(p.grad is None and not p.requires_grad for p in features.model.parameters())
    assert not any(module.training for module in features.model.modules())


@pytest.mark.system("perceptual")
def test_by_name_with_any_classifier(small_network, pair):
    total = losses.compose(f"l1+0.1*perceptual:net=vgg.tiny@{small_network},layer=relu1_1", "pictures")(*pair)
    features = Features.load(small_network)
    torch.testing.assert_close(total["perceptual"], 0.1 * perceptual(*pair, features=features, layers=["relu1_1"]))
    with pytest.raises(UsageError, match="no layer 'relu9_9'"):
        losses.compose(f"perceptual:net={small_network},layer=relu9_9", "pictures").ready()
    with pytest.raises(UsageError, match="no classifier"):
        losses.compose("perceptual:net=fcn.tiny@none", "pictures").ready()
    with pytest.raises(ModelError, match="no trained weights"):
        losses.compose("perceptual:net=vgg.tiny", "pictures").ready()


def test_layers_of_other_chains_are_counted_as_vgg_counts():
    net = nn.Module()
    net.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU())
    named = ["conv1_1", "norm1_1", "relu1_1", "pool1", "conv2_1", "relu2_1"]
    assert places(net) == {name: f"features.{i}" for i, name in enumerate(named)}


@pytest.mark.system("gram-style")
def test_the_gram_matrix_and_a_layers_loss_against_loops():
    draw = torch.Generator().manual_seed(0)
    own, theirs = (torch.rand(1, 3, 2, 4, generator=draw) for _ in range(2))

    def matrix(maps):
        flat = maps[0].flatten(1).tolist()
        return [[sum(p * q for p, q in zip(a, b, strict=True)) for b in flat] for a in flat]

    g, a = matrix(own), matrix(theirs)
    torch.testing.assert_close(gram(own)[0], torch.tensor(g))
    difference = sum((g[i][j] - a[i][j]) ** 2 for i in range(3) for j in range(3))
    n, m = 3, 8
    assert layer_loss(own, theirs).item() == pytest.approx(difference / (4 * n**2 * m**2), rel=1e-5)
    assert layer_loss(own, theirs, form="johnson").item() == pytest.approx(difference / (n * m) ** 2, rel=1e-5)


@pytest.mark.system("gram-style")
def test_style_does_not_know_where():
    draw = torch.Generator().manual_seed(0)
    maps = torch.rand(1, 5, 6, 7, generator=draw)
    shuffled = maps.flatten(2)[..., torch.randperm(42, generator=draw)].reshape(maps.shape)
    assert not torch.equal(shuffled, maps)
    torch.testing.assert_close(gram(shuffled), gram(maps))
    assert layer_loss(shuffled, maps).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.system("gram-style")
def test_style_is_the_weighted_sum_over_its_layers(features, pair, small_network):
    a, b = pair
    each = [layer_loss(by_hand(features, a, name), by_hand(features, b, name)) for name in ("relu1_1", "relu2_1")]
    layers = ["relu1_1", "relu2_1"]
    torch.testing.assert_close(gram_style(a, b, features=features, layers=layers), (each[0] + each[1]) / 2)
    torch.testing.assert_close(gram_style(a, b, features=features, layers=layers, weights=[2, 0.5]), 2 * each[0] + 0.5 * each[1])
    named = losses.compose(f"style:net={small_network},layer=relu1_1/relu2_1,weight=2/0.5", "pictures")(a, b)
    torch.testing.assert_close(named["gram_style"], 2 * each[0] + 0.5 * each[1])
    a.requires_grad_()
    b.requires_grad_()
    gram_style(a, b, features=features, layers=layers).backward()
    assert a.grad.abs().sum() > 0
    assert b.grad is None
    assert gram_style(a.detach(), a.detach(), features=features, layers=layers).item() == 0


class Turned(nn.Module):
    """A network whose embedding of a picture is its mean colour, less one half: a picture and its negative are opposite."""

    def forward(self, images):
        return images.mean(dim=(2, 3))


@pytest.mark.system("identity-loss")
def test_identity_of_the_same_and_of_opposite_embeddings():
    plain = Prepare(mean=(0.5,) * 3, std=(1.0,) * 3)
    net = nn.Sequential(Turned(), nn.Linear(3, 2))
    model = Classifier(net, features=lambda net, images: net[0](images), prepare=plain, categories=[{"id": 0, "name": "a"}, {"id": 1, "name": "b"}])
    features = Features(model)
    a = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert identity(a, a, features=features).item() == pytest.approx(0, abs=1e-6)
    assert identity(a, 1 - a, features=features).item() == pytest.approx(2, abs=1e-6)
    one, other = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    one[:, 0] = 1.0  # (.5, -.5, -.5)
    other[:, 1] = 1.0
    assert identity(one, other, features=features).item() == pytest.approx(1 + 1 / 3, abs=1e-6)


@pytest.mark.system("identity-loss")
def test_identity_through_a_trained_network(features, pair, small_network):
    a, b = (x.clone().requires_grad_() for x in pair)
    with torch.no_grad():
        wide = [F.interpolate(x, size=(64, 64), mode="bilinear", antialias=True) for x in (a, b)]  # the network's own size
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (features.prepare.mean, features.prepare.std))
        one, other = (features.model.net.pooled((x - mean) / std) for x in wide)
        expected = (1 - (one * other).sum(1) / one.norm(dim=1) / other.norm(dim=1)).mean()
    loss = losses.compose(f"identity:net={small_network}", "pictures")(a, b)["identity"]
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert a.grad.abs().sum() > 0
    assert b.grad is None


@pytest.mark.system("perceptual")
def test_a_network_first_asked_for_while_validating_lets_gradients_through_afterwards(small_network, tmp_path, pair):
    import shutil

    own = shutil.copy(small_network, tmp_path / "once.safetensors")  # a name that no other test has had loaded
    loss = losses.compose(f"perceptual:net={own},layer=relu1_1", "pictures")
    with torch.inference_mode():
        loss(*pair)
    picture = pair[0].clone().requires_grad_()
    loss(picture, pair[1])["perceptual"].backward()
    assert picture.grad.abs().sum() > 0


@pytest.mark.system("gram-style")
def test_a_form_that_there_is_not_is_told(features, pair):
    with pytest.raises(UsageError, match="gatys or johnson"):
        gram_style(*pair, features=features, layers=["relu1_1"], form="rms")
