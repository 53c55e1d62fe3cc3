"""Diffusion: what is left of a picture when, the three ways back, and what steers them, against exact denoisers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from cvtool.errors import UsageError
from cvtool.ops.diffusion import guidance, samplers
from cvtool.ops.diffusion import schedule as schedules

MEAN, SPREAD = 0.3, 0.2  # of numbers that are drawn
PAPER = schedules.linear()


def gaussian_denoiser(schedule, mean=MEAN, spread=SPREAD):
    """The exact one of data ~ N(mean, spread^2): E[eps | x_t]."""

    def denoise(x, t):
        a, s = schedule.scales(t, x)
        return s * (x - a * mean) / (a**2 * spread**2 + s**2)

    return denoise


def exact_end(schedule, x, mean=MEAN, spread=SPREAD):
    """Where the probability flow takes x_T: the same quantile of the data."""
    a, s = schedule.scales(schedule.length, x)
    return mean + spread * (x - a * mean) / math.sqrt(a**2 * spread**2 + s**2)


def drawn(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator, dtype=torch.float64)


# ---- forward


@pytest.mark.system("ddpm")
def test_the_papers_betas_leave_4e_5_of_the_variance():
    assert PAPER.length == 1000
    assert PAPER.betas[[0, 1, 1000]].tolist() == pytest.approx([0, 1e-4, 0.02])
    assert torch.diff(PAPER.betas[1:]).std() < 1e-12
    assert float(PAPER.abar[1000]) == pytest.approx(4.0358e-5, rel=1e-4)
    left = 1.0
    for t in range(1, 1001):
        left *= 1 - (1e-4 + (0.02 - 1e-4) * (t - 1) / 999)
    assert float(PAPER.abar[1000]) == pytest.approx(left)
    assert float(PAPER.abar[0]) == 1


@pytest.mark.system("ddpm")
def test_a_step_after_another_is_what_is_drawn_at_once():
    x, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    mean, variance = 1.0, 0.0
    for t in range(1, 301):
        kept, added = PAPER.step(x, t, zero).item(), PAPER.step(zero, t, x).item()
        assert kept**2 == pytest.approx(1 - float(PAPER.betas[t]))
        assert added**2 == pytest.approx(float(PAPER.betas[t]))
        mean, variance = kept * mean, kept**2 * variance + added**2
    assert PAPER.noised(x, 300, zero).item() == pytest.approx(mean)
    assert PAPER.noised(zero, 300, x).item() ** 2 == pytest.approx(variance)


@pytest.mark.system("ddpm")
@pytest.mark.parametrize("schedule", [PAPER, schedules.cosine()], ids=["linear", "cosine"])
def test_with_the_true_noise_the_picture_is_recovered(schedule):
    noise = drawn((4, 3, 5, 5))
    x0, eps, t = noise().clamp(-1, 1), noise(), torch.tensor([1, 30, 400, 900])
    x = schedule.noised(x0, t, eps)
    torch.testing.assert_close(schedule.x0_of(x, t, eps), x0)
    torch.testing.assert_close(schedule.eps_of(x, t, x0), eps)
    torch.testing.assert_close(schedule.eps_of_velocity(x, t, schedule.velocity(x0, t, eps)), eps)
    torch.testing.assert_close(x[2], schedule.noised(x0[2], 400, eps[2]))  # one time for all is the same

    def oracle(y, time):
        return schedule.eps_of(y, time, x0)

    times = schedules.spaced(1000, 20)
    ways = [samplers.ddpm(oracle, eps, schedule, times, noise), samplers.ddim(oracle, eps, schedule, times)]
    for found in [*ways, samplers.dpm_solver(oracle, eps, schedule, times)]:
        torch.testing.assert_close(found, x0)


def test_cosine_is_the_squared_cosine_and_other_lengths_keep_their_shape():
    found = schedules.cosine(1000).abar
    t = np.array([1, 250, 500, 900])
    plain = np.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    np.testing.assert_allclose(found[t].numpy(), plain, rtol=1e-9)
    assert found[1000] > 0
    assert schedules.cosine(1000).betas.max() == 0.999
    for make in (schedules.linear, schedules.cosine):
        torch.testing.assert_close(make(100).abar[[0, 50]], make(1000).abar[[0, 500]], rtol=0.07, atol=0)
    assert schedules.spaced(1000, 4) == [1000, 750, 500, 250, 0]
    assert schedules.spaced(7, 7) == [7, 6, 5, 4, 3, 2, 1, 0]
    assert all(a > b for a, b in zip(schedules.spaced(10, 7), schedules.spaced(10, 7)[1:], strict=False))
    for wrong, says in ((lambda: schedules.spaced(10, 11), "1 to 10"), (lambda: schedules.schedule("cosin", 9), "cosine"),
                        (lambda: schedules.schedule("linear", 0), "one time")):  # fmt: skip
        with pytest.raises(UsageError, match=says):
            wrong()
    with pytest.raises(ValueError, match="between 0 and 1"):
        schedules.Schedule(torch.tensor([0.5, 1.0]))


# ---- backward


@pytest.mark.system("ddpm")
def test_a_step_back_is_algorithm_2():
    noise = drawn((5,))
    x, eps, z = noise(), noise(), noise()
    for t in (1000, 400, 2):
        beta, abar = float(PAPER.betas[t]), float(PAPER.abar[t])
        mean = (x - beta / math.sqrt(1 - abar) * eps) / math.sqrt(1 - beta)
        small = (1 - float(PAPER.abar[t - 1])) / (1 - abar) * beta
        for variance, square in (("large", beta), ("small", small)):
            found = samplers.ddpm(lambda y, time: eps, x, PAPER, [t, t - 1], lambda: z, variance=variance, clip=False)
            torch.testing.assert_close(found, mean + math.sqrt(square) * z)
    beta = float(PAPER.betas[1])
    torch.testing.assert_close(  # the last adds no noise
        samplers.ddpm(lambda y, time: eps, x, PAPER, [1, 0], lambda: z, clip=False), (x - math.sqrt(beta) * eps) / math.sqrt(1 - beta)
    )


def test_the_posterior_is_bayes_rule():
    """q(x_s | x_t, x_0) is the product of two normal distributions: precisions and precision-weighted means add."""
    x0, x, t, s = torch.tensor(0.4, dtype=torch.float64), torch.tensor(-0.7, dtype=torch.float64), 700, 550
    then, left = float(PAPER.abar[s]), float(PAPER.abar[t] / PAPER.abar[s])
    precision = 1 / (1 - then) + left / (1 - left)
    mean = (math.sqrt(then) * x0 / (1 - then) + math.sqrt(left) * x / (1 - left)) / precision
    found, variance = PAPER.posterior(x0, x, t, s)
    torch.testing.assert_close(found, mean)
    assert variance == pytest.approx(1 / precision)


@pytest.mark.system("ddpm")
def test_t_steps_from_noise_draw_from_the_data():
    asked, noise = [], drawn((4000,))
    exact = gaussian_denoiser(PAPER)

    def denoise(x, t):
        asked.append(t)
        return exact(x, t)

    found = samplers.ddpm(denoise, noise(), PAPER, schedules.spaced(1000, 1000), noise, clip=False)
    assert asked == list(range(1000, 0, -1))
    assert found.mean().item() == pytest.approx(MEAN, abs=0.015)
    assert found.std().item() == pytest.approx(SPREAD, abs=0.01)
    found = samplers.ddpm(exact, noise(), PAPER, schedules.spaced(1000, 1000), noise, clip=False, variance="small")
    assert found.std().item() == pytest.approx(SPREAD, abs=0.01)


def test_ddim_ends_where_the_flow_does_and_dpm_solver_by_fewer_steps():
    schedule = schedules.cosine()
    x, denoise = drawn((200,))(), gaussian_denoiser(schedule)
    errors = {}
    for steps in (20, 40, 80):
        times = schedules.spaced(1000, steps)
        ways = {"ddim": samplers.ddim(denoise, x, schedule, times, clip=False), "dpm": samplers.dpm_solver(denoise, x, schedule, times, clip=False)}
        for name, found in ways.items():
            errors[name, steps] = (found - exact_end(schedule, x)).abs().mean().item()
    assert errors["ddim", 40] / errors["ddim", 80] == pytest.approx(2, abs=0.3)  # first order
    assert errors["dpm", 40] / errors["dpm", 80] > 3  # second
    assert errors["dpm", 40] < errors["ddim", 80]


def test_ddim_with_all_its_noise_is_ddpm_with_the_small_variance():
    times = schedules.spaced(1000, 10)
    x, denoise = drawn((50,))(), gaussian_denoiser(PAPER)
    one = samplers.ddim(denoise, x, PAPER, times, drawn((50,), 1), eta=1.0)
    torch.testing.assert_close(one, samplers.ddpm(denoise, x, PAPER, times, drawn((50,), 1), variance="small"))
    assert not torch.equal(one, samplers.ddim(denoise, x, PAPER, times, drawn((50,), 1), eta=0.5))


# ---- guidance


@pytest.mark.system("classifier-free-guidance")
def test_guidance_is_exact_at_both_ends_and_straight_beyond():
    noise = drawn((64,))
    null, told = noise().float(), noise().float()
    assert torch.equal(guidance.classifier_free(null, told, 1), told)
    assert torch.equal(guidance.classifier_free(null, told, 0), null)
    torch.testing.assert_close(guidance.classifier_free(null, told, 3), null + 3 * (told - null))


@pytest.mark.system("classifier-guidance")
def test_the_mean_moves_by_sigma_times_the_gradient():
    noise = drawn((6,))
    x, eps, z = noise(), noise(), noise()
    t, beta = 300, float(PAPER.betas[300])

    def log_probability(y, time):
        return -(time * (y - 0.5) ** 2).sum(-1, keepdim=True)

    def step(gradient):
        return samplers.ddpm(lambda y, time: eps, x, PAPER, [t, t - 1], lambda: z, clip=False, gradient=gradient)

    moved = step(guidance.gradient(log_probability, 2.0))
    torch.testing.assert_close(moved - step(None), beta * 2.0 * -2 * t * (x - 0.5))
    assert torch.equal(step(guidance.gradient(log_probability, 0.0)), step(None))
    denoise = guidance.guided(lambda y, time: eps, guidance.gradient(log_probability, 2.0), PAPER)
    torch.testing.assert_close(denoise(x, t), eps - math.sqrt(1 - float(PAPER.abar[t])) * 2.0 * -2 * t * (x - 0.5))


class Digits:
    """All that can be known of diffused digits: the denoiser of those pictures, and how likely each class is, by Bayes' rule."""

    def __init__(self, pictures, labels, schedule):
        self.pictures, self.labels, self.schedule = pictures, labels, schedule

    def _weights(self, x, t):
        a, s = self.schedule.scales(t, x)
        return -(torch.cdist(x, a * self.pictures) ** 2) / (2 * (s**2 + (0.2 * a) ** 2))  # ln, up to a constant

    def denoise(self, x, t):
        a, s = self.schedule.scales(t, x)
        mean = self._weights(x, t).softmax(1) @ self.pictures
        return s * (x - a * mean) / (s**2 + (0.2 * a) ** 2)

    def of_class(self, wanted):
        def log_probability(x, t):
            found = self._weights(x, t)
            other = wanted[:, None] != self.labels[None]
            return found.masked_fill(other, -torch.inf).logsumexp(1) - found.logsumexp(1)

        return log_probability


@pytest.mark.system("classifier-guidance")
def test_a_classifier_that_did_not_guide_agrees_more_the_stronger_the_guidance():
    found = load_digits()
    pictures = torch.from_numpy(found.data / 8 - 1).float()
    labels = torch.from_numpy(found.target)
    held_out = LogisticRegression(C=0.05, max_iter=200).fit(pictures[900:].numpy(), labels[900:].numpy())
    schedule = schedules.cosine(100)
    known = Digits(pictures[:300], labels[:300], schedule)
    wanted = torch.arange(100) % 10
    accuracies = []
    for scale in (0.0, 0.2, 1.0):
        noise = drawn((100, 64))
        gradient = guidance.gradient(known.of_class(wanted), scale) if scale else None
        made = samplers.ddpm(known.denoise, noise().float(), schedule, schedules.spaced(100, 50), lambda n=noise: n().float(), gradient=gradient)
        accuracies.append((held_out.predict(made.numpy()) == wanted.numpy()).mean())
    assert accuracies[0] < 0.25
    assert accuracies[0] < accuracies[1] < accuracies[2]
    assert accuracies[2] > 0.7
