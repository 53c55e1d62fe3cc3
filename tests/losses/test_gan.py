"""What two players lose: each form against plain arithmetic, and the facts that its paper is known for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cvtool.errors import UsageError
from cvtool.losses._gan import FORMS, form
from cvtool.losses.adversarial import adversarial
from cvtool.losses.gan_hinge import gan_hinge
from cvtool.losses.gradient_penalty import gradient_penalty
from cvtool.losses.lsgan import lsgan
from cvtool.losses.minimax import minimax
from cvtool.losses.non_saturating import non_saturating
from cvtool.losses.wgan import wgan


@pytest.fixture
def scores():
    return torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def slope(loss, at):
    score = torch.tensor([at], dtype=torch.float64, requires_grad=True)
    loss(score).backward()
    return score.grad.item()


@pytest.mark.system("gan")
def test_a_discriminator_that_says_one_half_loses_ln_4():
    undecided = torch.zeros(5)
    lost = adversarial(undecided, True) + adversarial(undecided, False)
    assert lost.item() == pytest.approx(math.log(4))
    assert lost.item() / 2 == pytest.approx(math.log(2))  # where the two expectations are halved
    for name in ("minimax", "non-saturating"):
        judging = form(name).judging
        assert (judging(undecided, True) + judging(undecided, False)).item() == pytest.approx(math.log(4))


@pytest.mark.system("gan")
def test_the_minimax_form_is_a_zero_sum(scores):
    """What the generator loses is what the discriminator wins of made pictures."""
    plain = sum(math.log(1 - 1 / (1 + math.exp(-s))) for s in scores.flatten().tolist()) / scores.numel()
    assert minimax(scores).item() == pytest.approx(plain)
    assert minimax(scores).item() == pytest.approx(-adversarial(scores, False).item())


@pytest.mark.system("non-saturating")
def test_its_gradient_stays_where_that_of_minimax_vanishes(scores):
    plain = -sum(math.log(1 / (1 + math.exp(-s))) for s in scores.flatten().tolist()) / scores.numel()
    assert non_saturating(scores).item() == pytest.approx(plain)
    for score in (-4.0, -8.0, -16.0):  # D(G(z)) -> 0
        told = 1 / (1 + math.exp(-score))
        assert slope(non_saturating, score) == pytest.approx(told - 1)
        assert slope(minimax, score) == pytest.approx(-told)
    assert slope(non_saturating, -16.0) < -0.999
    assert abs(slope(minimax, -16.0)) < 1e-6


@pytest.mark.system("non-saturating")
def test_real_is_1_and_made_is_0(scores):
    for real in (True, False):
        target = torch.full_like(scores, 1.0 if real else 0.0)
        torch.testing.assert_close(adversarial(scores, real), nn.functional.binary_cross_entropy(scores.sigmoid(), target))
    assert FORMS["non-saturating"].deceiving(scores).item() == pytest.approx(adversarial(scores, True).item())


@pytest.mark.system("lsgan")
def test_least_squares_are_zero_at_their_targets(scores):
    both = form("lsgan")
    assert both.judging(torch.ones(4), True).item() == 0
    assert both.judging(torch.zeros(4), False).item() == 0
    assert both.deceiving(torch.ones(4)).item() == 0
    flat = scores.flatten().tolist()
    assert (lsgan(scores, True) + lsgan(scores, False)).item() == pytest.approx(sum((s - 1) ** 2 + s**2 for s in flat) / len(flat))
    assert both.deceiving(scores).item() == pytest.approx(sum((1 - s) ** 2 for s in flat) / len(flat))


@pytest.mark.system("gan-hinge")
def test_nothing_is_lost_beyond_the_margins(scores):
    both = form("hinge")
    assert both.judging(torch.tensor([1.0, 7.0]), True).item() == 0
    assert both.judging(torch.tensor([-1.0, -7.0]), False).item() == 0
    flat = scores.flatten().tolist()
    assert gan_hinge(scores, True).item() == pytest.approx(sum(max(0, 1 - s) for s in flat) / len(flat))
    assert gan_hinge(scores, False).item() == pytest.approx(sum(max(0, 1 + s) for s in flat) / len(flat))
    assert both.deceiving(scores).item() == pytest.approx(-sum(flat) / len(flat))


@pytest.mark.system("wgan")
def test_the_critic_loses_the_negative_of_the_gap(scores):
    real, made = scores[0], scores[1]
    assert (wgan(real, True) + wgan(made, False)).item() == pytest.approx(float(made.mean() - real.mean()))
    assert form("wgan").deceiving(made).item() == pytest.approx(-float(made.mean()))


@pytest.mark.system("wgan-gp")
def test_a_critic_of_slope_1_pays_no_penalty():
    torch.manual_seed(0)
    real, made = torch.randn(6, 3, 4, 4), torch.randn(6, 3, 4, 4)
    weight = nn.functional.normalize(torch.randn(48), dim=0)
    assert gradient_penalty(lambda x: x.flatten(1) @ weight, real, made).item() == pytest.approx(0, abs=1e-10)
    assert gradient_penalty(lambda x: x.flatten(1) @ (3 * weight), real, made).item() == pytest.approx(4, rel=1e-5)
    assert gradient_penalty(lambda x: 0 * x.flatten(1).sum(1), real, made).item() == pytest.approx(1)


@pytest.mark.system("wgan-gp")
def test_the_penalty_is_taken_between_each_pair():
    """f(x) = |x|^2 / 2 has the gradient x, so that the penalty tells where it was taken: each on its own line."""
    torch.manual_seed(0)
    real, made = torch.randn(5, 3, 2, 2), torch.randn(5, 3, 2, 2)
    torch.manual_seed(1)
    found = gradient_penalty(lambda x: x.flatten(1).square().sum(1) / 2, real, made)
    torch.manual_seed(1)
    total = 0.0
    for i, t in enumerate(torch.rand(5, 1, 1, 1).flatten().tolist()):
        total += (float((t * real[i] + (1 - t) * made[i]).norm()) - 1) ** 2
    assert found.item() == pytest.approx(total / 5, rel=1e-5)


def test_the_penalty_trains_the_critic():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1, bias=False), nn.Flatten(0))
    real, made = torch.randn(5, 3, 2, 2), torch.randn(5, 3, 2, 2)
    with torch.no_grad():  # what the step is in where it makes pictures is no reason to have no gradient
        penalty = gradient_penalty(critic, real, made)
    penalty.backward()
    assert all(p.grad.abs().sum() > 0 for name, p in critic.named_parameters() if name.endswith("weight"))
    assert not real.requires_grad


@pytest.mark.system("one-sided-label-smoothing")
@pytest.mark.parametrize("target", [1.0, 0.9])
def test_the_best_discriminator_under_one_sided_smoothing(target):
    """At every point D* = target p_real / (p_real + p_made): found by descent on the logits of a few points."""
    real, made = torch.tensor([0.5, 0.3, 0.2, 0.0]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    logits = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], lr=0.5, max_iter=200, tolerance_grad=1e-9)

    def lost():
        optimizer.zero_grad()
        each = [p * adversarial(score, target) + q * adversarial(score, False) for p, q, score in zip(real, made, logits, strict=True)]
        total = torch.stack(each).sum()
        total.backward()
        return total

    optimizer.step(lost)
    torch.testing.assert_close(logits.detach().sigmoid(), target * real / (real + made), atol=2e-3, rtol=0)


def test_a_wrong_form_is_told():
    with pytest.raises(UsageError, match="unknown gan_loss 'hing'") as told:
        form("hing")
    assert "hinge" in str(told.value.hint)
