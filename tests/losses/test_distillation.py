"""Distillation against the equations written out, and what a teacher feels of it."""

import math

import pytest
import torch

from cvtool.errors import UsageError
from cvtool.losses.distillation import distillation, hard, soft


def softmax(row, tau):
    powers = [math.exp(v / tau) for v in row]
    return [p / sum(powers) for p in powers]


@pytest.fixture
def logits():
    draw = torch.Generator().manual_seed(0)
    return 2 * torch.randn(4, 3, generator=draw), 2 * torch.randn(4, 3, generator=draw), torch.tensor([0, 2, 1, 1])


@pytest.mark.system("distillation")
@pytest.mark.parametrize(("tau", "weight"), [(1.0, 0.5), (3.0, 0.5), (4.0, 0.9), (3.0, 0.0)])
def test_soft_is_a_share_of_the_truth_and_a_share_of_the_teachers_doubt(logits, tau, weight):
    student, teacher, target = logits
    truth = doubt = 0.0
    for s, t, y in zip(student.tolist(), teacher.tolist(), target.tolist(), strict=True):
        truth -= math.log(softmax(s, 1)[y]) / 4
        doubt += sum(q * math.log(q / p) for q, p in zip(softmax(t, tau), softmax(s, tau), strict=True)) / 4
    found = distillation(student, teacher, target, weight=weight, temperature=tau).item()
    assert found == pytest.approx((1 - weight) * truth + weight * tau**2 * doubt, rel=1e-5)


@pytest.mark.system("distillation")
def test_hard_is_half_the_truth_and_half_the_teachers_word(logits):
    student, teacher, target = logits
    total = 0.0
    for s, t, y in zip(student.tolist(), teacher.tolist(), target.tolist(), strict=True):
        total -= (math.log(softmax(s, 1)[y]) / 2 + math.log(softmax(s, 1)[t.index(max(t))]) / 2) / 4
    assert distillation(student, teacher, target, form="hard").item() == pytest.approx(total, rel=1e-5)


@pytest.mark.system("distillation")
def test_who_says_what_the_teacher_says_has_nothing_to_learn(logits):
    same = logits[0].clone().requires_grad_()
    loss = soft(same, logits[0], temperature=3.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-7)
    assert same.grad.abs().max() < 1e-7


@pytest.mark.system("distillation")
def test_it_is_the_teachers_distribution_that_weighs():
    """KL((.5, .5) || (.05, .95)) = 0.8304 and reversed 0.4946."""
    even, sure = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.05, 0.95]]).log()
    assert soft(sure, even, temperature=1.0).item() == pytest.approx(0.8304, abs=5e-5)
    assert soft(even, sure, temperature=1.0).item() == pytest.approx(0.4946, abs=5e-5)


@pytest.mark.system("distillation")
def test_the_teacher_feels_nothing(logits):
    student, teacher = (x.clone().requires_grad_() for x in logits[:2])
    (soft(student, teacher, temperature=2.0) + hard(student, teacher)).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.system("distillation")
def test_there_are_two_forms(logits):
    with pytest.raises(UsageError, match="soft or hard, not 'mild'"):
        distillation(*logits, form="mild")
