"""Losses of embeddings: each against a plain loop over its equation, and against pytorch-metric-learning where that has it."""

from __future__ import annotations

import math
import sys
from itertools import combinations, permutations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool import losses
from cvtool.errors import UsageError
from cvtool.losses.angular_triplet import angular_triplet
from cvtool.losses.arcface import arcface
from cvtool.losses.contrastive import contrastive
from cvtool.losses.contrastive_m2 import contrastive_m2
from cvtool.losses.cosface import cosface
from cvtool.losses.hierarchical_triplet import hierarchical_triplet
from cvtool.losses.infonce import infonce
from cvtool.losses.nt_xent import nt_xent
from cvtool.losses.proxy import proxy
from cvtool.losses.triplet import triplet
from cvtool.losses.tuplet import tuplet


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Ten vectors of four classes, one of which has one picture."""
    return torch.randn(10, 6, generator=torch.Generator().manual_seed(0)).double(), torch.tensor([0, 1, 0, 2, 1, 2, 0, 3, 1, 2])


def library():
    """pytorch-metric-learning, or a skip."""
    for name in ("distances", "losses", "reducers"):
        pytest.importorskip(f"pytorch_metric_learning.{name}")
    return sys.modules["pytorch_metric_learning"]


def all_triples(labels):
    return [(a, p, n) for a, p, n in permutations(range(len(labels)), 3) if labels[a] == labels[p] != labels[n]]


def two(distance):
    """Two vectors so far apart, and a gradient."""
    return torch.tensor([[0.0, 0.0], [distance, 0.0]], dtype=torch.float64, requires_grad=True)


SAME, OTHER = torch.tensor([0, 0]), torch.tensor([0, 1])


@pytest.mark.system("contrastive")
def test_contrastive_by_its_equation(batch):
    z, labels = batch
    for margin, near in ((1.0, 0.0), (3.0, 0.5), (None, 0.0)):
        found = []
        for i, j in combinations(range(len(z)), 2):
            d = math.dist(z[i].tolist(), z[j].tolist())
            if labels[i] == labels[j]:
                found.append(max(0, d - near) ** 2)
            else:
                found.append(-(d**2) if margin is None else max(0, margin - d) ** 2)
        torch.testing.assert_close(contrastive(z, labels, margin=margin, positive=near).item(), sum(found) / len(found))


@pytest.mark.system("contrastive")
def test_contrastive_of_one_pair():
    assert contrastive(two(3.0), SAME).item() == pytest.approx(9)  # m+ = 0: d^2
    assert contrastive(two(3.0), SAME, positive=1.0).item() == pytest.approx(4)
    assert contrastive(two(0.5), SAME, positive=1.0).item() == 0
    assert contrastive(two(0.25), OTHER).item() == pytest.approx(0.5625)
    for d in (1.0, 1.5, 40.0):
        z = two(d)
        loss = contrastive(z, OTHER)
        loss.backward()
        assert loss.item() == 0
        assert not z.grad.any()
    assert contrastive(two(100.0), OTHER, margin=None).item() == pytest.approx(-1e4)  # no bound below
    criterion = losses.compose("contrastive:margin=none", "embeddings")
    assert criterion(two(2.0), OTHER)["contrastive"].item() == pytest.approx(-4)
    z = torch.zeros(2, 2, requires_grad=True)
    contrastive(z, OTHER).backward()
    assert z.grad.isfinite().all()


@pytest.mark.system("contrastive")
def test_contrastive_is_that_of_the_library(batch):
    pml = library()
    z, labels = batch
    own = pml.losses.ContrastiveLoss(pos_margin=0.5, neg_margin=3.0, reducer=pml.reducers.DoNothingReducer(),
        distance=pml.distances.LpDistance(normalize_embeddings=False))(z, labels)  # fmt: skip
    values = torch.cat([own["pos_loss"]["losses"].square(), own["neg_loss"]["losses"].square()])  # theirs are without the square, each pair both ways
    torch.testing.assert_close(contrastive(z, labels, margin=3.0, positive=0.5, reduction="sum"), values.sum() / 2)


@pytest.mark.system("contrastive-m2")
def test_the_form_with_a_squared_margin(batch):
    z, labels = batch
    found = []
    for i, j in combinations(range(len(z)), 2):
        d2 = float((z[i] - z[j]).square().sum())
        found.append(d2 if labels[i] == labels[j] else max(0, 9 - d2))
    torch.testing.assert_close(contrastive_m2(z, labels, margin=3.0).item(), sum(found) / len(found))
    assert contrastive_m2(two(3.0), OTHER, margin=3.0).item() == contrastive(two(3.0), OTHER, margin=3.0).item() == 0
    slopes = {}
    for name, loss in (("m2", contrastive_m2), ("plain", contrastive)):
        for d in (0.5, 2.9):
            z = two(d)
            loss(z, OTHER, margin=3.0).backward()
            slopes[name, d] = z.grad[1, 0].item()
    assert slopes == pytest.approx({("m2", 0.5): -1.0, ("m2", 2.9): -5.8, ("plain", 0.5): -5.0, ("plain", 2.9): -0.2})


@pytest.mark.system("triplet")
def test_triplet_is_on_squared_distances(batch):
    z, labels = batch
    triples = all_triples(labels)
    far = [float((z[a] - z[p]).square().sum() - (z[a] - z[n]).square().sum()) for a, p, n in triples]
    for margin in (0.0, 0.2, 5.0):
        torch.testing.assert_close(triplet(z, labels, margin=margin).item(), sum(max(0, d + margin) for d in far) / len(far))
    a, p, n = (z[[t[i] for t in triples]] for i in range(3))
    unsquared = torch.nn.TripletMarginLoss(margin=5.0)(a, p, n)
    assert abs(unsquared - triplet(z, labels, margin=5.0)) > 1
    some = torch.tensor(triples[:7])
    torch.testing.assert_close(triplet(z, labels, margin=5.0, triples=some).item(), sum(max(0, d + 5) for d in far[:7]) / 7)
    pml = library()
    theirs = pml.losses.TripletMarginLoss(margin=0.2, reducer=pml.reducers.MeanReducer(),
        distance=pml.distances.LpDistance(normalize_embeddings=False, power=2))  # fmt: skip
    torch.testing.assert_close(triplet(z, labels, margin=0.2), theirs(z, labels))


@pytest.mark.system("triplet")
def test_without_margin_a_constant_network_has_solved_it(batch):
    z = torch.ones(10, 6, requires_grad=True)
    assert triplet(z, batch[1], margin=0.0).item() == 0
    assert triplet(z, batch[1], margin=0.2).item() == pytest.approx(0.2)
    nothing = triplet(z, torch.zeros(10, dtype=torch.int64))  # no negative at all
    nothing.backward()
    assert nothing.item() == 0


@pytest.mark.system("angular-triplet")
def test_angular_triplet(batch):
    z, labels = batch
    unit = F.normalize(z, dim=1)
    values = [max(0.0, float(unit[a] @ unit[n] - unit[a] @ unit[p])) for a, p, n in all_triples(labels)]
    torch.testing.assert_close(angular_triplet(z, labels).item(), sum(values) / len(values))
    torch.testing.assert_close(angular_triplet(z, labels), angular_triplet(7 * z, labels))  # lengths do not count
    assert angular_triplet(torch.tensor([[1.0, 0], [2, 0], [0, 3]]), torch.tensor([0, 0, 1])).item() == 0


@pytest.mark.system("tuplet")
def test_only_the_hardest_negative_teaches(batch):
    z, labels = batch
    values = []
    for a, p in permutations(range(len(z)), 2):
        if labels[a] == labels[p]:
            values.append(max(0.0, max(float(z[a] @ z[n]) for n in range(len(z)) if labels[n] != labels[a]) - float(z[a] @ z[p])))
    torch.testing.assert_close(tuplet(z, labels).item(), sum(values) / len(values))
    z = torch.tensor([[1.0, 0], [0.5, 0], [0.8, 1], [0.9, 1], [0.2, 1]], requires_grad=True)
    tuplet(z, torch.tensor([0, 0, 1, 2, 3]), reduction="sum").backward()
    assert [bool(row.any()) for row in z.grad[2:]] == [False, True, False]


@pytest.mark.system("infonce")
def test_infonce(batch):
    z, labels = batch
    values = []
    for a, p in permutations(range(len(z)), 2):
        if labels[a] == labels[p]:
            positive = math.exp(z[a] @ z[p])
            values.append(-math.log(positive / (positive + sum(math.exp(z[a] @ z[n]) for n in range(len(z)) if labels[n] != labels[a]))))
    torch.testing.assert_close(infonce(z, labels).item(), sum(values) / len(values))
    a, p, n = torch.randn(3, 4, dtype=torch.float64)
    one = infonce(torch.stack([a, p, n]), torch.tensor([0, 0, 1]), reduction="none")
    torch.testing.assert_close(one, torch.stack([F.softplus(a @ n - a @ p), F.softplus(p @ n - a @ p)]))
    for seed in range(20):
        z = 3 * torch.randn(10, 4, generator=torch.Generator().manual_seed(seed))
        assert (infonce(z, labels, reduction="none") >= tuplet(z, labels, reduction="none")).all()


@pytest.mark.system("nt-xent")
def test_nt_xent(batch):
    for n in (2, 5, 32):
        views = torch.arange(n).repeat(2)
        torch.testing.assert_close(nt_xent(torch.ones(2 * n, 3), views, temperature=0.07).item(), math.log(2 * n - 1), atol=1e-4, rtol=0)
    z, views = batch[0], torch.arange(5).repeat(2)
    unit, values = F.normalize(z, dim=1), []
    for i in range(10):
        j = (i + 5) % 10
        below = sum(math.exp(float(unit[i] @ unit[k]) / 0.3) for k in range(10) if k != i)  # without itself, with the positive
        values.append(-math.log(math.exp(float(unit[i] @ unit[j]) / 0.3) / below))
    torch.testing.assert_close(nt_xent(z, views, temperature=0.3).item(), sum(values) / 10)
    pml = library()
    torch.testing.assert_close(nt_xent(z, views, temperature=0.3), pml.losses.NTXentLoss(temperature=0.3)(z, views))


@pytest.mark.system("nt-xent")
def test_its_likeness_is_the_cosine():
    """One picture's two views, same, orthogonal or opposite, against one pair that is orthogonal to both: cosines 1, 0, -1."""
    for cosine, other in ((1, [2.0, 0, 0, 0]), (0, [0, 3.0, 0, 0]), (-1, [-5.0, 0, 0, 0])):
        z = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 0], other, [0, 0, 1, 0]])
        first = nt_xent(z, torch.tensor([0, 1, 0, 1]), temperature=1.0, reduction="none")[0]
        assert first.item() == pytest.approx(math.log(math.exp(cosine) + 2) - cosine, abs=1e-6)


@pytest.mark.system("arcface")
def test_arcface(batch):
    z, labels = batch
    templates = torch.randn(4, 6, generator=torch.Generator().manual_seed(1)).double()
    cos = F.normalize(z, dim=1) @ F.normalize(templates, dim=1).T
    torch.testing.assert_close(arcface(z, labels, templates=templates, margin=0.0, scale=1.0), F.cross_entropy(cos, labels))
    moved = cos.clone()
    for i, y in enumerate(labels.tolist()):
        moved[i, y] = math.cos(math.acos(cos[i, y]) + 0.5)
    torch.testing.assert_close(arcface(z, labels, templates=templates), F.cross_entropy(64 * moved, labels))
    angles = torch.linspace(0.01, math.pi - 0.01, 200)
    around = torch.stack([angles.cos(), angles.sin(), torch.zeros(200)], 1)
    growing = arcface(around, torch.zeros(200, dtype=torch.int64), templates=torch.eye(3)[[0, 2]], scale=4.0, reduction="none")
    assert (growing.diff() > 0).all()  # also where the cosine of the moved angle would turn
    pml = library()
    theirs = pml.losses.ArcFaceLoss(4, 6, margin=math.degrees(0.5), scale=64).double()
    theirs.W.data.copy_(templates.T)
    torch.testing.assert_close(arcface(z, labels, templates=templates), theirs(z, labels), rtol=1e-4, atol=1e-4)


def test_cosface_and_proxy_are_those_of_the_library(batch):
    pml = library()
    z, labels = batch
    templates = torch.randn(4, 6, generator=torch.Generator().manual_seed(1)).double()
    cosine = pml.losses.CosFaceLoss(4, 6, margin=0.35, scale=64).double()
    cosine.W.data.copy_(templates.T)
    torch.testing.assert_close(cosface(z, labels, templates=templates), cosine(z, labels), rtol=1e-5, atol=1e-5)
    unit, proxies = F.normalize(z, dim=1), F.normalize(templates, dim=1)
    far = (unit[:, None] - proxies).square().sum(2)
    values = [far[i, y] + torch.stack([-far[i, k] for k in range(4) if k != y]).logsumexp(0) for i, y in enumerate(labels.tolist())]
    torch.testing.assert_close(proxy(z, labels, templates=templates), torch.stack(values).mean())


@pytest.mark.system("hierarchical-triplet")
def test_hierarchical_triplet(batch):
    z, labels = batch
    z, margins = F.normalize(z, dim=1), torch.rand(4, 4, generator=torch.Generator().manual_seed(2)).double()
    triples = all_triples(labels)
    values = [max(0, float((z[a] - z[p]).square().sum() - (z[a] - z[n]).square().sum() + margins[labels[a], labels[n]])) for a, p, n in triples]
    torch.testing.assert_close(hierarchical_triplet(z, labels, margins=margins).item(), sum(values) / (2 * len(triples)))
    assert min(values) == 0  # the bracket


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("contrastive:margin=-1", "margin of contrastive is at least 0"),
        ("contrastive:margin=wide", "margin of contrastive is a number or none"),
        ("arcface:margin=4", "margin of arcface is from 0 to"),
        ("infonce:temperature=0", "temperature of infonce is above 0"),
        ("triplet:bank=3", "no argument 'bank'"),
        ("dice", "dice compares semantic, and this model learns embeddings"),
    ],
)
def test_what_makes_no_sense_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        losses.compose(text, "embeddings")
