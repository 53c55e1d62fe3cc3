"""`visualize gan-optimal` and `mode-collapse`: the numbers behind them, by hand and by experiment, and that the pictures show them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from cvtool.cli import command
from cvtool.errors import InputError, UsageError
from cvtool.metrics import js, mode_coverage, optimal_discriminator
from cvtool.render import figures
from cvtool.render.figures import gan_optimal
from cvtool.render.palette import instance
from cvtool.train.modes import World, experiment


@pytest.mark.system("gan-optimal")
def test_the_best_discriminator_is_p_over_p_plus_q():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(7), 2)
    told = optimal_discriminator.optimal(p, q)
    assert told.tolist() == pytest.approx([a / (a + b) for a, b in zip(p, q, strict=True)])
    least = optimal_discriminator.loss(p, q, told)
    for _ in range(200):  # nothing else loses less
        other = np.clip(told + rng.normal(0, 0.05, 7), 1e-6, 1 - 1e-6)
        assert optimal_discriminator.loss(p, q, other) > least
    a, b = 0.3, 0.6  # one outcome: a ln y + b ln(1 - y) is largest at a / (a + b), by looking
    at = np.linspace(0.001, 0.999, 999)
    assert at[(a * np.log(at) + b * np.log(1 - at)).argmax()] == pytest.approx(a / (a + b), abs=1e-3)


@pytest.mark.system("gan-optimal")
def test_its_loss_is_ln_4_less_two_js_and_the_generator_raises_it():
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(6), 2)
    told = optimal_discriminator.optimal(p, q)
    assert optimal_discriminator.loss(p, q, told) == pytest.approx(math.log(4) - 2 * float(js.js(p, q)))
    mixed = [(1 - t) * q + t * p for t in np.linspace(0, 1, 11)]
    lost = [float(optimal_discriminator.loss(p, one, optimal_discriminator.optimal(p, one))) for one in mixed]
    assert lost == sorted(lost)
    assert lost[-1] == pytest.approx(math.log(4))
    assert (optimal_discriminator.optimal(p, p) == 0.5).all()
    apart = np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.5, 0.5])
    assert optimal_discriminator.optimal(*apart).tolist() == [1, 1, 0, 0]
    assert optimal_discriminator.loss(*apart, optimal_discriminator.optimal(*apart)) == 0


@pytest.mark.system("gan-optimal")
def test_evaluate_measures_it_and_visualize_draws_it(tmp_path, capsys):
    p, q = np.array([[0.5, 0.25, 0.25]]), np.array([[0.25, 0.25, 0.5]])
    np.save(tmp_path / "p.npy", p)
    np.save(tmp_path / "q.npy", q)
    words = ["--metric", "gan-optimal", "--gt", str(tmp_path / "p.npy"), "--dt", str(tmp_path / "q.npy"), "-q"]
    command("evaluate").main(words, standalone_mode=False)
    found = json.loads(capsys.readouterr().out)["metrics"]
    assert found["D_loss"] == pytest.approx(math.log(4) - 2 * float(js.js(p, q)[0]))
    assert found["D_real"] == pytest.approx(0.5 * 2 / 3 + 0.25 / 2 + 0.25 / 3)
    assert found["D_made"] == pytest.approx(1 - found["D_real"])

    command("visualize").main(["gan-optimal", "-o", str(tmp_path / "x.png")], standalone_mode=False)
    assert (tmp_path / "x.png").stat().st_size > 10_000
    image = np.asarray(figures.draw("gan-optimal", None, {"p": "normal:0,1", "q": "normal:2,0.7"}))
    for i in (0, 1, 2):
        assert (image == instance(i)).all(axis=2).sum() > 300


def test_distributions_are_names_or_samples(tmp_path):
    at = np.linspace(-5, 5, 400)
    normal = gan_optimal.density("normal:1,0.5", at, "p")
    assert normal.sum() == pytest.approx(1)
    assert (normal * at).sum() == pytest.approx(1, abs=1e-3)
    np.save(tmp_path / "s.npy", np.random.default_rng(0).normal(1, 0.5, 20_000))
    sampled = gan_optimal.density(str(tmp_path / "s.npy"), at, "p")
    assert np.abs(sampled - normal).sum() < 0.15
    for text in ("normal:1", "cauchy:0,1", "normal:0,-1", "uniform:2,1"):
        with pytest.raises(UsageError, match="--q takes"):
            gan_optimal.values(text, "q")
    with pytest.raises(InputError, match="file of numbers"):
        gan_optimal.values(str(tmp_path / "none.npy"), "q")


@pytest.mark.system("mode-collapse")
def test_modes_hit_and_good_points_are_counted():
    ring, grid = mode_coverage.centres("ring", 8), mode_coverage.centres("grid", 25)
    assert np.linalg.norm(ring, axis=1) == pytest.approx(2)
    assert len({tuple(c) for c in grid.round(6)}) == 25
    assert grid.mean(0) == pytest.approx(0)
    points = np.concatenate([ring[:2] + 0.29, ring[2:3] + np.array([[0.31, 0]]), np.repeat(ring[3:4], 5, 0)])  # 0.41, 0.41, 0.31 and 0 away
    found, good = mode_coverage.shares(points, ring, 0.1)
    assert good == 5 / 8
    assert found.tolist() == pytest.approx([0, 0, 0, 5 / 8, 0, 0, 0, 0, 3 / 8])
    even = np.full(8, 1 / 8)
    assert mode_coverage.hit(even, found[:8]) == 1 / 8
    assert mode_coverage.hit(even, even) == 1
    with pytest.raises(ValueError, match="layout"):
        mode_coverage.centres("star", 3)


@pytest.mark.system("mode-collapse")
def test_coverage_and_quality_add_up_to_js(tmp_path, capsys):
    rng = np.random.default_rng(2)
    for _ in range(20):
        p, q = rng.dirichlet(np.ones(5), 2) * (rng.random((2, 5)) > 0.2)
        if not (p.sum() and q.sum()):
            continue
        p, q = p / p.sum(), q / q.sum()
        assert sum(mode_coverage.split(p, q)) == pytest.approx(float(js.js(p, q)), abs=1e-9)
    missing, wrong = mode_coverage.split(np.array([0.5, 0.5, 0]), np.array([1.0, 0, 0]))  # a mode is left out: the mean is 3/4, 1/4
    assert missing == pytest.approx((0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)) / 2)
    assert wrong == pytest.approx(math.log(1 / 0.75) / 2)
    for name, row in (("p", [[0.5, 0.5, 0]]), ("q", [[1.0, 0, 0]])):
        np.save(tmp_path / f"{name}.npy", np.array(row))
    words = ["--metric", "mode-coverage", "--gt", str(tmp_path / "p.npy"), "--dt", str(tmp_path / "q.npy"), "-q"]
    command("evaluate").main(words, standalone_mode=False)
    found = json.loads(capsys.readouterr().out)["metrics"]
    assert found["modes_hit"] == 0.5
    assert found["coverage"] + found["quality"] == pytest.approx(float(js.js(np.array([0.5, 0.5, 0]), np.array([1.0, 0, 0]))))


@pytest.mark.system("mode-collapse")
def test_the_inner_problem_decides_and_a_frozen_generator_is_found_out():
    ring = World("ring", 8)
    both = experiment(ring, inner="d", turns=600)
    assert both.hit >= 0.8
    assert both.quality > 0.2
    collapsed = experiment(ring, inner="g", turns=600)
    assert max(share for _, share in collapsed.history) <= 2 / 8  # never more than two modes at once
    assert collapsed.hit < both.hit
    for found in (both, collapsed):
        assert 0 <= found.coverage + found.excess <= math.log(2) + 1e-9
    frozen = experiment(ring, inner="frozen", turns=150, looks=3)
    assert frozen.accuracy > 0.95
    assert frozen.history[0][1] == frozen.history[-1][1]
    more = experiment(World("grid", 25), inner="d", turns=600)
    assert more.hit < both.hit  # the more modes, the fewer of them
    state = torch.get_rng_state()
    again = experiment(ring, inner="frozen", turns=30, looks=3, latent=16)
    assert torch.equal(torch.get_rng_state(), state)
    assert (again.made != frozen.made).any()
    assert (experiment(ring, inner="frozen", turns=30, looks=3, latent=16).made == again.made).all()


@pytest.mark.system("mode-collapse")
def test_the_experiments_are_drawn():
    options = {"layout": "grid", "modes": "4,9", "latent": "2", "inner": "d,frozen", "turns": 10}
    image = np.asarray(figures.draw("mode-collapse", None, options))
    for i in (0, 1):
        assert (image == instance(i)).all(axis=2).sum() > 100
    assert image.shape[0] > 2 * 360
    for change, says in (({"layout": "star"}, "ring nor grid"), ({"inner": "e"}, "none of"), ({"modes": "2.5"}, "whole"), ({"turns": 0}, "between")):
        with pytest.raises(UsageError, match=says):
            figures.draw("mode-collapse", None, options | change)
