"""What the steps of metric learning and self-supervision do besides an optimiser's turn: whose turn it is, which pictures come, what moves after."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cvtool import losses, weights
from cvtool.batch import Batch, Place
from cvtool.categories import numbered
from cvtool.results import Labels
from cvtool.train import recipe as recipes
from cvtool.train import steps
from cvtool.train.steps import divide_and_conquer, hierarchical


class Data:
    """Eighteen pictures of six classes; those of a class are alike, and classes 0 to 2 are dark, the others light."""

    def __init__(self):
        self.labels = np.repeat(np.arange(6), 3)
        self.categories = numbered(6)
        rng = np.random.default_rng(0)
        base = np.repeat([40, 50, 60, 190, 200, 210], 3)
        self.pictures = [np.clip(value + rng.integers(-8, 8, (16, 16, 3)), 0, 255).astype(np.uint8) for value in base]
        self.records = [{"labels": [{"category_id": category}]} for category in self.labels.tolist()]

    def __len__(self):
        return len(self.pictures)

    def pixels(self, index):
        return self.pictures[index]

    def label(self, annotation, record):
        return annotation["category_id"]


@pytest.fixture
def loader():
    return SimpleNamespace(dataset=Data(), batch_size=6, sampler=None)


def step_of(reference, loss="", **settings):
    torch.manual_seed(0)
    model = weights.build(reference, categories=numbered(6), **settings.pop("built", {}))
    own = {"batch_size": 6, "epochs": 4, "weight_decay": 0.1} | settings
    recipe = recipes.resolve(recipes.of_model(recipes.registry.parse(reference).entry.recipe, "tiny"), own)
    if loss:
        model.criterion = losses.compose(loss, "embeddings")
    return steps.make(model, recipe | {"loss": loss})


def batch_of(loader, rows):
    data = loader.dataset
    images = torch.from_numpy(np.stack([data.pictures[row] for row in rows])).permute(0, 3, 1, 2).float() / 255 - 0.45
    places = [Place(16, 16, 16, 16)] * len(rows)
    targets = [Labels(torch.tensor([data.labels[row]])) for row in rows]
    return Batch(images, torch.zeros(len(rows), 16, 16, dtype=torch.bool), places, targets)


def turn(step, batch):
    (phase,) = step.phases()
    phase.optimizer.zero_grad()
    torch.stack(list(phase.losses(batch).values())).sum().backward()
    phase.optimizer.step()
    step.after(batch)


# ---- divide and conquer --------------------------------------------------------------------------------------------


@pytest.mark.system("embedding-ensemble")
def test_a_batch_is_of_one_cluster_and_moves_its_own_learner_alone(loader):
    step = step_of("embedding-ensemble.tiny", images_per_class=2, joint_epochs=1, recluster=2, lr=0.01)
    step.model.train()
    step.begin_epoch(loader, 0, 0)
    clusters, order = step.clusters.numpy(), loader.sampler(0)
    assert set(clusters[:9]) != set(clusters[9:])  # k-means: dark and light
    assert len(order) == 18
    seen = set()
    for number in range(3):
        rows = order[6 * number : 6 * number + 6]
        (own,) = set(clusters[rows].tolist())
        before = [{key: value.clone() for key, value in learner.state_dict().items()} for learner in step.model.learners]
        body = step.model.net.blocks[0][0].weight.detach().clone()
        turn(step, batch_of(loader, rows))
        for k, learner in enumerate(step.model.learners):
            same = all(torch.equal(value, before[k][key]) for key, value in learner.state_dict().items())
            assert same == (k != own)
        assert not torch.equal(body, step.model.net.blocks[0][0].weight)
        seen.add(own)
    assert seen == {0, 1}
    step.begin_epoch(loader, 3, 0)  # the last epoch: all of them
    before = [learner.weight.detach().clone() for learner in step.model.learners]
    turn(step, batch_of(loader, loader.sampler(3)[:6]))
    assert not any(torch.equal(old, learner.weight) for old, learner in zip(before, step.model.learners, strict=True))


@pytest.mark.system("embedding-ensemble")
def test_clusters_are_made_anew_when_due_and_keep_their_learner(loader, monkeypatch):
    step = step_of("embedding-ensemble.tiny", images_per_class=2, joint_epochs=1, recluster=2)
    calls = []
    monkeypatch.setattr(divide_and_conquer, "embedded", lambda model, loader: calls.append(1) or np.repeat(np.eye(6), 3, axis=0)[:, :5])
    for epoch, batch in ((0, 0), (0, 2), (1, 0), (2, 1), (2, 0)):
        step.begin_epoch(loader, epoch, batch)
    assert len(calls) == 2  # epochs 0 and 2, and not where an epoch is gone on with
    old = np.array([0, 0, 0, 1, 1, 1, -1])
    assert divide_and_conquer.kept(np.array([1, 1, 0, 0, 0, 0, -1]), old, 2).tolist() == [0, 0, 1, 1, 1, 1, -1]


def test_an_epoch_that_is_gone_on_with_is_the_same(loader):
    for reference, settings in (
        ("embedding-ensemble.tiny", {"images_per_class": 2}),
        (
            "siamese.tiny",
            {"loss": "hierarchical-triplet", "step": "hierarchical", "images_per_class": 2, "neighbourhood": 3, "built": {"normalize": True}},
        ),
    ):
        step = step_of(reference, **settings)
        step.begin_epoch(loader, 0, 0)
        order = loader.sampler(0).tolist()
        again = step_of(reference, **settings)
        again.load_state_dict(step.state_dict())
        again.begin_epoch(loader, 0, 2)
        assert loader.sampler(0).tolist() == order


# ---- hierarchical triplets -----------------------------------------------------------------------------------------


@pytest.mark.system("hierarchical-triplet")
def test_a_batch_is_anchors_with_their_nearest_classes(loader):
    distances = np.abs(np.subtract.outer(np.array([0.0, 1, 2, 10, 11, 12]), [0.0, 1, 2, 10, 11, 12])) + np.eye(6)
    near = hierarchical.neighbours(distances, 3)
    assert near[0] == [0, 1, 2]
    assert near[4] == [4, 3, 5]
    labels = np.repeat(np.arange(6), 4)
    order = hierarchical.batches(labels, near, per_class=2, batch=6, rng=np.random.default_rng(0))
    assert len(order) == 24
    for begin in range(0, 24, 6):
        found = labels[order[begin : begin + 6]]
        assert np.unique(found, return_counts=True)[1].tolist() == [2, 2, 2]  # m = 3 classes, t = 2 pictures
        assert set(found) in ({0, 1, 2}, {3, 4, 5})  # a neighbourhood
    both = labels[hierarchical.batches(labels, near, per_class=2, batch=12, rng=np.random.default_rng(0))[:12]]
    assert np.unique(both, return_counts=True)[1].tolist() == [2] * 6  # l' = 2 of them


@pytest.mark.system("hierarchical-triplet")
def test_the_tree_is_that_of_the_embeddings_and_its_margins_are_learned_with(loader):
    settings = {"step": "hierarchical", "images_per_class": 2, "neighbourhood": 3, "built": {"normalize": True}}
    step = step_of("siamese.tiny", "hierarchical-triplet", **settings)
    step.model.train()
    step.begin_epoch(loader, 0, 0)
    assert (step.tree.meet[:3, :3].max()) < step.tree.meet[0, 3]  # dark classes meet before dark and light do
    rows = loader.sampler(0)[:6]
    batch = batch_of(loader, rows)
    found = step.phases()[0].losses(batch)["hierarchical_triplet"]
    z, labels = step.model(batch.images), torch.from_numpy(loader.dataset.labels[rows])
    margins = torch.from_numpy(step.tree.margins(0.1)).float()
    torch.testing.assert_close(found, losses.get("hierarchical-triplet").hierarchical_triplet(z, labels, margins=margins))
    turn(step, batch)


# ---- self-supervision ----------------------------------------------------------------------------------------------


def target_of(model):
    return torch.cat([p.detach().flatten() for p in model.target.parameters()])


def online_of(model):
    return torch.cat([p.detach().flatten() for part in (model.net, model.projector) for p in part.parameters()])


@pytest.mark.system("byol")
@pytest.mark.parametrize("tau", [0.0, 0.9, 1.0])
def test_the_target_is_a_moving_average(loader, tau):
    step = step_of("byol.tiny", lr=0.01, built={"tau": tau})
    model = step.model.train()
    assert torch.equal(target_of(model), online_of(model))
    for number in range(3):
        before = target_of(model)
        turn(step, batch_of(loader, range(6 * number, 6 * number + 6)))
        assert not torch.equal(before, online_of(model))
        torch.testing.assert_close(target_of(model), tau * before + (1 - tau) * online_of(model))
    if tau in (0.0, 1.0):
        assert torch.equal(target_of(model), online_of(model) if tau == 0 else before)
    assert all(p.grad is None and not p.requires_grad for p in model.target.parameters())
    ids = {id(p) for p in model.target.parameters()}
    assert not any(id(p) in ids for phase in step.phases() for p in phase.params)


@pytest.mark.system("simclr")
def test_a_bank_of_negatives(loader):
    step = step_of("simclr.tiny", built={"bank": 20}, lr=0.01)
    model = step.model.train()
    assert model.bank.shape == (20, 8)
    for number, filled in enumerate((12, 20)):
        turn(step, batch_of(loader, range(6 * number, 6 * number + 6)))
        assert int(model.filled) == filled
    torch.testing.assert_close(model.bank.norm(dim=1), torch.ones(20))
    old = model.bank.clone()
    turn(step, batch_of(loader, range(12, 18)))
    assert torch.equal(model.bank[12:], old[:8])  # the oldest went
    seen = {}
    model.criterion = lambda z, labels, bank: seen.update(bank=bank, labels=labels) or {"x": z.sum()}
    model.losses(batch_of(loader, range(6)))
    assert torch.equal(seen["bank"], model.bank)
    assert seen["labels"].tolist() == [0, 1, 2, 3, 4, 5] * 2
