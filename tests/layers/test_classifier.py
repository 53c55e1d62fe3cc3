"""The contract that all classifiers share: targets hard, soft and smoothed, a loss that can be chosen, heads for training alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvtool import losses
from cvtool.batch import Batch, Place, Prepare
from cvtool.errors import ModelError
from cvtool.layers.classifier import Classifier
from cvtool.losses.label_smoothing import smooth
from cvtool.results import Labels

CATEGORIES = [{"id": i, "name": name} for i, name in enumerate("abcd", 1)]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU())
        self.head = nn.Linear(5, 4)

    def forward(self, images):
        return self.head(self.body(images))


class Helped(Net):
    """With a side head."""

    def __init__(self):
        super().__init__()
        self.side = nn.Linear(5, 4)

    def auxiliary(self, images):
        x = self.body(images)
        return self.head(x), {"aux1": (0.3, self.side(x))}


def classifier(net=None, categories=CATEGORIES):
    torch.manual_seed(0)
    return Classifier(net or Net(), features=lambda net, images: net.body(images), prepare=Prepare(), categories=categories)


def batch(*targets):
    images = torch.randn(len(targets), 3, 2, 2, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.zeros(len(targets), 2, 2, dtype=torch.bool), [Place(2, 2, 2, 2)] * len(targets), list(targets))


def one(label):
    return Labels(torch.tensor([label]))


def mixed(**shares):
    return Labels(torch.tensor(["abcd".index(k) for k in shares]), torch.tensor(list(shares.values())))


def test_one_label_a_picture():
    model, given = classifier(), batch(one(2), one(0), one(3))
    assert list(model.losses(given)) == ["cross_entropy"]
    torch.testing.assert_close(model.losses(given)["cross_entropy"], F.cross_entropy(model(given.images), torch.tensor([2, 0, 3])))
    assert model.truth(given).tolist() == [2, 0, 3]


def test_mixtures_are_weights_that_sum_to_one():
    model, given = classifier(), batch(mixed(a=0.75, c=0.25), one(1))
    assert model.truth(given).tolist() == [[0.75, 0, 0.25, 0], [0, 1, 0, 0]]
    own = model(given.images).log_softmax(1)
    expected = -(0.75 * own[0, 0] + 0.25 * own[0, 2] + own[1, 1]) / 2
    torch.testing.assert_close(model.losses(given)["cross_entropy"], expected)
    twice = batch(Labels(torch.tensor([1, 1]), torch.tensor([0.4, 0.6])))
    assert model.truth(twice).tolist() == [[0, 1, 0, 0]]


def test_labels_are_smoothed_in_training_alone():
    model, given = classifier(), batch(one(2), one(0))
    plain = model.losses(given)["cross_entropy"]
    model.label_smoothing = 0.1
    softened = F.cross_entropy(model(given.images), smooth(torch.tensor([2, 0]), 4, 0.1))
    torch.testing.assert_close(model.train().losses(given)["cross_entropy"], softened)
    assert not torch.equal(softened, plain)
    torch.testing.assert_close(model.eval().losses(given)["cross_entropy"], plain)


def test_the_criterion_can_be_chosen():
    model, given = classifier(), batch(one(2), mixed(a=0.5, d=0.5))
    model.criterion = losses.compose("focal+0.5*hinge", model.criterion_kind)
    values = model.losses(given)
    assert list(values) == ["focal", "hinge"]
    torch.testing.assert_close(values["hinge"], 0.5 * losses.get("hinge").hinge(model(given.images), model.truth(given)))


def test_heads_that_help_in_training_do_so_under_their_names():
    model, given = classifier(Helped()), batch(one(2), one(0))
    labels = torch.tensor([2, 0])
    values = model.train().losses(given)
    side = model.net.side(model.net.body(given.images))
    assert list(values) == ["cross_entropy", "aux1"]
    torch.testing.assert_close(values["aux1"], 0.3 * F.cross_entropy(side, labels))
    assert list(model.eval().losses(given)) == ["cross_entropy"]
    model.criterion = losses.compose("ce+hinge", "labels")
    both = model.train().losses(given)
    torch.testing.assert_close(both["aux1"], 0.3 * sum(model.criterion(side, labels).values()))


def test_what_cannot_be_learnt_from_is_refused():
    model = classifier()
    for wrong in (Labels(torch.tensor([0, 1])), Labels(torch.zeros(0, dtype=torch.int64))):
        with pytest.raises(ValueError, match="one label per image"):
            model.losses(batch(one(0), wrong))
    with pytest.raises(ModelError, match="knows no classes"):
        classifier(categories=[]).predict(batch(one(0)))


def test_answers_and_features():
    model, given = classifier().eval(), batch(one(0), one(1))
    probabilities = model(given.images).softmax(1)
    answers = model.predict(given, max_det=2)
    assert [len(a.labels) for a in answers] == [2, 2]
    assert answers[0].labels[0] == probabilities[0].argmax()
    assert (model.predict(given, conf=0.99)[0].labels.numel()) == 0
    torch.testing.assert_close(model.embed(given), model.net.body(given.images))
    assert not model.embed(given).requires_grad
    assert model.features(given.images).requires_grad
