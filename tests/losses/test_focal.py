"""Focal loss against torchvision's, against its own definition, and at the factors the paper prints."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import sigmoid_focal_loss

from cvtool.losses.focal import focal

PAIRS = st.lists(st.tuples(st.floats(-30, 30), st.sampled_from([0.0, 1.0])), min_size=1, max_size=20)


@given(PAIRS, st.floats(0, 1), st.sampled_from([0.5, 1.0, 2.0, 5.0]))
def test_it_equals_torchvisions(pairs, alpha, gamma):
    logits, targets = (torch.tensor(v, dtype=torch.float64) for v in zip(*pairs, strict=True))
    expected = sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma)
    torch.testing.assert_close(focal(logits, targets, alpha=alpha, gamma=gamma, reduction="none"), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.system("focal")
def test_it_equals_the_equation_written_out():
    for x, y in [(0.3, 1.0), (0.3, 0.0), (-2.0, 1.0), (4.0, 0.0)]:
        p = 1 / (1 + math.exp(-x))
        p_t, alpha_t = (p, 0.25) if y else (1 - p, 0.75)
        expected = -alpha_t * (1 - p_t) ** 2 * math.log(p_t)
        assert focal(torch.tensor(x), torch.tensor(y)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.system("focal")
def test_without_focus_and_balance_it_is_half_the_cross_entropy():
    logits, targets = torch.randn(50), torch.rand(50).round()
    plain = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(focal(logits, targets, gamma=0.0, alpha=0.5, reduction="none"), plain / 2)
    torch.testing.assert_close(focal(logits, targets, gamma=0.0, alpha=None, reduction="none"), plain)


@pytest.mark.system("focal")
@pytest.mark.parametrize(("p_t", "factor"), [(0.9, 0.01), (0.6, 0.16), (0.4, 0.36), (0.1, 0.81)])
def test_how_far_each_example_is_dimmed(p_t, factor):
    logit = torch.tensor(p_t).logit()
    focused, plain = (focal(logit, torch.tensor(1.0), gamma=gamma, alpha=None) for gamma in (2.0, 0.0))
    assert (focused / plain).item() == pytest.approx(factor, rel=1e-4)


def test_extreme_logits_stay_finite():
    logits = torch.tensor([-1e4, 1e4, -1e4, 1e4], requires_grad=True)
    loss = focal(logits, torch.tensor([0.0, 1.0, 1.0, 0.0]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


def test_classes_are_questions_of_one_against_the_rest():
    logits, labels = torch.randn(6, 4), torch.tensor([0, 3, 1, 1, 2, 0])
    expected = focal(logits, F.one_hot(labels, 4).float())
    torch.testing.assert_close(focal(logits, labels), expected)
    maps, drawn = logits.reshape(1, 2, 3, 4).movedim(-1, 1), labels.reshape(1, 2, 3).clone()
    torch.testing.assert_close(focal(maps, drawn), expected)
    drawn[0, 1, 2] = 255
    torch.testing.assert_close(focal(maps, drawn), focal(logits[:5], labels[:5]))
