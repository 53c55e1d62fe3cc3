"""Losses over classes against plain loops: cross-entropy, binary, sigmoid with alpha, hinge, dice."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from cvtool.losses.bce import bce, bce_of_probabilities
from cvtool.losses.cross_entropy import cross_entropy
from cvtool.losses.dice import dice, overlap_loss
from cvtool.losses.hinge import hinge
from cvtool.losses.sigmoid_bce import sigmoid_bce


@pytest.fixture
def scores():
    return 3 * torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 4, 2, 2, 1, 3, 0])


def maps(logits, labels):
    """Rows as a map of 1 x 7 pixels, and an eighth that nobody looks at."""
    logits = torch.cat([logits, torch.full((1, 5), 9.0)]).reshape(1, 2, 4, 5).movedim(-1, 1)
    return logits, torch.cat([labels, torch.tensor([255])]).reshape(1, 2, 4)


@pytest.mark.system("cross-entropy")
def test_the_printed_example_in_nats_and_in_bits():
    logits = torch.tensor([[0.775, 0.126, 0.039, 0.070]], dtype=torch.float64)
    logits = (logits / logits.sum()).log() + 5.0  # raw scores; the printed probabilities add up to 1.01
    nats = cross_entropy(logits, torch.tensor([0])).item()
    assert nats == pytest.approx(-math.log(0.775 / 1.01))
    exact = -math.log(0.775)
    assert exact == pytest.approx(0.2549, abs=5e-5)
    assert exact / math.log(2) == pytest.approx(0.3677, abs=5e-5)
    rest = torch.tensor([[0.775, 0.126, 0.039, 0.060]], dtype=torch.float64)
    assert cross_entropy(rest.log(), torch.tensor([0])).item() == pytest.approx(exact)
    assert cross_entropy(rest.log(), torch.tensor([0])).item() / math.log(2) == pytest.approx(0.3677, abs=5e-5)


@pytest.mark.system("cross-entropy")
def test_cross_entropy_against_a_loop(scores):
    logits, labels = scores
    total = sum(math.log(sum(math.exp(v) for v in row)) - row[y] for row, y in zip(logits.tolist(), labels.tolist(), strict=True))
    assert cross_entropy(logits, labels).item() == pytest.approx(total / 7, rel=1e-5)
    assert cross_entropy(logits, F.one_hot(labels, 5).float()).item() == pytest.approx(total / 7, rel=1e-5)
    assert cross_entropy(*maps(logits, labels)).item() == pytest.approx(total / 7, rel=1e-5)
    with pytest.raises((IndexError, RuntimeError)):
        cross_entropy(logits, torch.full((7,), 5))  # classes are 0..K-1


@pytest.mark.system("cross-entropy")
def test_cross_entropy_depends_on_the_true_classes_probability_alone():
    p = torch.tensor([[0.6, 0.1, 0.3], [0.6, 0.39, 0.01]])
    one, other = (cross_entropy(row.log()[None], torch.tensor([0])).item() for row in p)
    assert one == pytest.approx(other, rel=1e-6)
    assert one == pytest.approx(-math.log(0.6), rel=1e-6)
    second = torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0]])  # what a text calls label 2 is index 1
    logits = torch.randn(1, 5)
    assert cross_entropy(logits, second).item() == pytest.approx(cross_entropy(logits, torch.tensor([1])).item(), rel=1e-6)


def test_a_map_without_a_labelled_pixel_costs_nothing():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    nothing = torch.full((1, 4, 4), 255)
    for loss in (cross_entropy, bce, sigmoid_bce, hinge, dice):
        assert loss(logits, nothing).item() == 0


@pytest.mark.system("bce")
def test_binary_cross_entropy_at_its_ends():
    one = torch.ones(1)
    assert bce_of_probabilities(one, one).item() == 0
    assert bce_of_probabilities(torch.zeros(1), torch.zeros(1)).item() == 0
    costs = [bce_of_probabilities(torch.tensor([p]), one).item() for p in (0.5, 0.1, 1e-10, 1e-30)]
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(math.log(2))
    assert costs[-1] > 60
    assert bce_of_probabilities(torch.zeros(1), one).item() == 100


@pytest.mark.system("bce")
@given(st.lists(st.tuples(st.floats(-20, 20), st.floats(0, 1)), min_size=1, max_size=12))
def test_binary_cross_entropy_of_logits_is_that_of_probabilities(pairs):
    x, y = (torch.tensor(v, dtype=torch.float64) for v in zip(*pairs, strict=True))
    total = 0.0
    for score, truth in pairs:
        p = 1 / (1 + math.exp(-score))
        total -= truth * math.log(p) + (1 - truth) * math.log(1 / (1 + math.exp(score)))
    assert bce(x, y).item() == pytest.approx(total / len(pairs), rel=1e-9, abs=1e-12)
    assert bce_of_probabilities(x.sigmoid(), y).item() == pytest.approx(total / len(pairs), rel=1e-6, abs=1e-9)


@pytest.mark.system("bce")
def test_binary_cross_entropy_of_logits_is_finite_at_any_size():
    x = torch.tensor([-1e4, 1e4, -1e4, 1e4], requires_grad=True)
    loss = bce(x, torch.tensor([0.0, 1.0, 1.0, 0.0]), reduction="none")
    assert loss.tolist() == [0, 0, 1e4, 1e4]
    loss.sum().backward()
    assert x.grad.tolist() == [0, 0, -1, 1]


def test_binary_cross_entropy_of_classes_and_maps(scores):
    logits, labels = scores
    expected = F.binary_cross_entropy_with_logits(logits, F.one_hot(labels, 5).float())
    torch.testing.assert_close(bce(logits, labels), expected)
    torch.testing.assert_close(bce(*maps(logits, labels)), expected)


@pytest.mark.system("sigmoid-bce")
def test_sigmoid_bce_against_a_loop_with_any_number_of_classes_a_row(scores):
    logits, _ = scores
    wanted = torch.tensor([[0, 0, 0, 0, 0], [1, 0, 0, 1, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 1]])
    for alpha in (None, 0.25, 0.9):
        total = 0.0
        for row, truth in zip(logits.tolist(), wanted.tolist(), strict=True):
            for s, y in zip(row, truth, strict=True):
                p = 1 / (1 + math.exp(-s))
                weight = 1 if alpha is None else alpha if y else 1 - alpha
                total -= weight * (math.log(p) if y else math.log(1 - p))
        assert sigmoid_bce(logits, wanted.float(), alpha=alpha).item() == pytest.approx(total / 7, rel=1e-5)
    torch.testing.assert_close(sigmoid_bce(logits, wanted.float(), alpha=0.5), sigmoid_bce(logits, wanted.float()) / 2)


@pytest.mark.system("sigmoid-bce")
def test_a_row_of_zeros_is_the_background():
    scores = torch.zeros(1, 4, requires_grad=True)
    sigmoid_bce(scores, torch.zeros(1, 4)).backward()
    assert (scores.grad > 0).all()  # every class goes down
    assert sigmoid_bce(torch.full((1, 4), -50.0), torch.zeros(1, 4)).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.system("hinge-class")
def test_hinge_against_a_loop(scores):
    logits, labels = scores
    total = 0.0
    for row, y in zip(logits.tolist(), labels.tolist(), strict=True):
        total += sum(max(0.0, row[j] - row[y] + 1) for j in range(5) if j != y)
    assert hinge(logits, labels).item() == pytest.approx(total / 7, rel=1e-5)
    assert hinge(logits, F.one_hot(labels, 5).float()).item() == pytest.approx(total / 7, rel=1e-5)
    assert hinge(*maps(logits, labels)).item() == pytest.approx(total / 7, rel=1e-5)


@pytest.mark.system("hinge-class")
def test_hinge_is_zero_once_every_margin_is_one():
    scores = torch.tensor([[3.0, 2.0, 1.5, -4.0]], requires_grad=True)
    loss = hinge(scores, torch.tensor([0]))
    loss.backward()
    assert loss.item() == 0
    assert not scores.grad.any()
    assert hinge(scores.detach() * 0.99, torch.tensor([0])).item() > 0


@pytest.mark.system("dice")
def test_dice_of_equal_and_of_disjoint_masks():
    g = torch.zeros(1, 4, 4)
    g[0, :2] = 1
    assert overlap_loss(g, g).item() == 0
    assert overlap_loss(1 - g, g).item() == 1
    assert overlap_loss(torch.zeros_like(g), torch.zeros_like(g)).item() == 0
    draw = torch.Generator().manual_seed(0)
    p, g = torch.rand(1, 3, 3, generator=draw), torch.rand(1, 3, 3, generator=draw).round()
    both = sum(a * b for a, b in zip(p.flatten().tolist(), g.flatten().tolist(), strict=True))
    assert overlap_loss(p, g).item() == pytest.approx(1 - 2 * both / (p.sum().item() + g.sum().item()), rel=1e-6)


@pytest.mark.system("dice")
def test_dice_of_maps_against_a_loop_over_the_classes_that_occur():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 5, generator=draw)
    labels = torch.randint(0, 3, (2, 3, 5), generator=draw)  # class 3 does not occur
    labels[0, 0, :2] = 255
    p = logits.softmax(dim=1)
    terms = []
    for k in range(3):
        both = mine = theirs = 0.0
        for b in range(2):
            for y in range(3):
                for x in range(5):
                    if labels[b, y, x] != 255:
                        g = float(labels[b, y, x] == k)
                        both, mine, theirs = both + p[b, k, y, x].item() * g, mine + p[b, k, y, x].item(), theirs + g
        terms.append(1 - 2 * both / (mine + theirs))
    assert dice(logits, labels).item() == pytest.approx(sum(terms) / 3, rel=1e-5)
    sure = 60.0 * F.one_hot(labels.clamp(max=3), 4).movedim(-1, 1).float()
    assert dice(sure, labels).item() == pytest.approx(0, abs=1e-6)
    assert dice(sure.roll(1, dims=1), labels).item() == pytest.approx(1, abs=1e-6)
