"""The figures about training: their numbers are measured by what training uses, and the picture shows them."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from cvtool.errors import UsageError
from cvtool.render import figures
from cvtool.render.figures import activations, init_stats, landscape
from cvtool.render.palette import instance

X = np.linspace(-6, 6, 241)


def defaults(module):
    return {name: facts["default"] for name, facts in module.OPTIONS.items()}


def count(image, colour):
    return int((np.asarray(image) == colour).all(axis=2).sum())


# ---- activations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "slope"),
    [
        pytest.param("relu", np.maximum(X, 0), X > 0, marks=pytest.mark.system("relu")),
        pytest.param("leaky-relu:0.2", np.where(X > 0, X, 0.2 * X), np.where(X > 0, 1, 0.2), marks=pytest.mark.system("leaky-relu")),
        pytest.param("elu", np.where(X > 0, X, np.exp(X) - 1), np.where(X > 0, 1, np.exp(X)), marks=pytest.mark.system("elu")),
        pytest.param("sigmoid", 1 / (1 + np.exp(-X)), np.exp(-X) / (1 + np.exp(-X)) ** 2, marks=pytest.mark.system("sigmoid")),
        pytest.param("tanh", np.tanh(X), 1 - np.tanh(X) ** 2, marks=pytest.mark.system("tanh")),
        ("softmax", np.exp(X) / (np.exp(X) + 2), 2 * np.exp(X) / (np.exp(X) + 2) ** 2),
        ("maxout", np.maximum(X, 0), np.where(X == 0, 0.5, X > 0)),
        ("maxout:3", np.maximum(np.maximum(-0.6 * X - 1, 0.3 * X), 1.2 * X - 1.5), None),
    ],
)  # fmt: skip
def test_the_curves_are_the_function_and_its_derivative(name, value, slope):
    y, derivative = activations.curve(name, X)
    assert np.allclose(y, value)
    if slope is not None:
        assert np.allclose(derivative, slope)


@pytest.mark.system("gelu")
@pytest.mark.parametrize("name", ["gelu", "gelu:tanh"])
def test_both_gelus_are_drawn(name):
    y, derivative = activations.curve(name, X)
    assert np.allclose(derivative[1:-1], (y[2:] - y[:-2]) / (X[2:] - X[:-2]), atol=2e-3)
    assert count(figures.draw("activations", None, {"functions": name}), activations.VALUE) > 300


@pytest.mark.system("relu")
@pytest.mark.system("leaky-relu")
@pytest.mark.system("elu")
@pytest.mark.system("sigmoid")
@pytest.mark.system("tanh")
def test_the_picture_shows_both_curves_of_each_function_and_where_it_saturates():
    every = figures.draw("activations", None, {"functions": "leaky-relu,elu,sigmoid,tanh"})
    assert every.height < 600  # one row
    for i in range(4):
        panel = every.crop((i * every.width // 4, 0, (i + 1) * every.width // 4, every.height))
        assert count(panel, activations.VALUE) > 300
        assert count(panel, activations.SLOPE) > 200
    sigmoid = np.asarray(every)[150:350, every.width // 2 : 3 * every.width // 4]
    red = (sigmoid[..., 0] > sigmoid[..., 1] + 10) & (sigmoid[..., 0] < 90)
    assert red.mean() > 0.1  # marked where it is flat
    x = np.linspace(-8, 8, 1601)
    (_, left), (right, _) = activations.saturated(activations.curve("sigmoid", x)[1])
    assert (x[left], x[right]) == pytest.approx((-6.0, 6.0), abs=0.02)  # s (1 - s) = 0.0025
    assert activations.saturated(activations.curve("leaky-relu", x)[1]) == []


@pytest.mark.system("relu")
def test_the_share_of_dead_units_is_reported():
    plain, helped, driven = activations.dead_units(0.0), activations.dead_units(1.0), activations.dead_units(0.0, turns=60)
    assert 0 < plain < 0.3
    assert helped < plain  # biases above zero keep units alive
    assert driven > plain  # a rate that is too high kills some
    assert activations.dead_units(-50.0) == 1
    lines = activations._lines("relu", X, *activations.curve("relu", X), [(0, 120)])
    assert any(words.startswith("dead of 512 at first") and "biases of 0.01" in words for words, _ in lines)


# ---- the start of a network ----------------------------------------------------------------------------------------


@pytest.mark.system("naive-init")
def test_the_naive_starts_show_their_symptoms():
    zeros, small, large = (init_stats.measure(name, "tanh", layers=10, units=128) for name in ("zeros", "small:0.01", "large:1"))
    assert zeros.alike
    assert zeros.outputs == [0.0] * 10
    assert init_stats.symptom(zeros).startswith("all units of a layer get the same gradient")
    assert all(later < 0.3 * former for former, later in pairwise(small.outputs))
    assert "outputs shrink by 0.11 a layer" in init_stats.symptom(small)
    assert not small.alike
    assert large.outputs[-1] > 0.9
    assert max(large.open) < 0.25  # the derivative is next to nothing for all others
    assert "saturated" in init_stats.symptom(large)


@pytest.mark.system("xavier")
@pytest.mark.system("he")
def test_the_right_starts_show_none():
    for initializer, activation in (("xavier", "tanh"), ("glorot:uniform", "tanh"), ("he", "relu"), ("he:uniform", "relu")):
        found = init_stats.measure(initializer, activation, layers=10, units=256)
        assert init_stats.symptom(found) == "", (initializer, activation)
    assert "outputs grow" in init_stats.symptom(init_stats.measure("large", "relu", layers=6, units=64))


@pytest.mark.system("naive-init")
def test_the_figure_of_starts_draws_a_line_for_each():
    import torch

    before = torch.get_rng_state()
    out = figures.draw("init-stats", None, defaults(init_stats) | {"units": 32})
    assert torch.equal(before, torch.get_rng_state())
    for i in range(5):
        assert count(out, instance(i)) > 200
    for wrong in ({"initializers": "hee"}, {"activation": "relo"}, {"depth": 0}, {"units": 9999}, {"activation": "maxout"}, {"initializers": ""}):
        with pytest.raises(UsageError):
            figures.draw("init-stats", None, defaults(init_stats) | {"units": 16} | wrong)


# ---- landscapes ----------------------------------------------------------------------------------------------------


@cache
def walk(text, surface="canyon", turns=200, rate=None):
    ground = landscape.SURFACES[surface]
    return landscape.walk(text, ground, turns=turns, rate=rate or landscape.rate_for(text, ground))


@pytest.mark.system("momentum")
@pytest.mark.system("nesterov")
@pytest.mark.parametrize("text", ["momentum", "nesterov:form=shifted", "nesterov:form=lookahead"])
def test_momentum_is_through_the_canyon_before_sgd(text):
    assert walk(text).arrived is not None
    assert walk("sgd:momentum=0").arrived is None
    best = min(walk("sgd:momentum=0", rate=rate).arrived for rate in (0.9, 0.95))  # at 1.0 it begins to swing
    assert walk(text).arrived < best


@pytest.mark.system("adagrad")
def test_adagrad_stops_short_in_the_canyon():
    way = walk("adagrad", turns=defaults(landscape)["turns"])
    assert way.arrived is None
    steps = np.linalg.norm(np.diff(way.places, axis=0), axis=1)
    assert steps[-1] < 0.1 * steps[0]  # they die away
    assert np.linalg.norm(way.places[-1]) > 0.5  # with the lowest point still far
    assert walk("momentum").arrived < 200


@pytest.mark.system("newton")
def test_newton_takes_one_step_on_every_paraboloid():
    for surface in ("sphere", "quadratic", "canyon", "axis-aligned"):
        assert walk("newton", surface, turns=2).arrived == 1


@pytest.mark.system("rmsprop")
@pytest.mark.system("adam")
def test_rates_of_their_own_help_where_the_axes_are_those_of_the_weights():
    for text in ("rmsprop", "adam"):
        assert walk(text, "axis-aligned").arrived is not None
        assert walk(text, "sphere").arrived > walk("sgd:momentum=0", "sphere", turns=20).arrived
    assert walk("sgd:momentum=0", "axis-aligned").arrived is None


def test_momentum_rolls_out_of_a_local_minimum():
    ground = landscape.SURFACES["local-minimum"]
    assert walk("sgd:momentum=0", "local-minimum", turns=60).arrived is None
    assert walk("momentum", "local-minimum").arrived is not None
    assert np.allclose(walk("momentum", "local-minimum").places[-1], ground.lowest, atol=1e-3)
    assert np.allclose(walk("sgd:momentum=0", "local-minimum", turns=60).places[-1], (-1.249, 0.535), atol=1e-3)


@pytest.mark.parametrize("surface", landscape.SURFACES)
def test_the_landscape_shows_every_way(surface):
    out = figures.draw("landscape", None, {"surface": surface, "optimizers": "sgd:momentum=0,adam,newton:damping=0.1", "turns": 30, "rate": "auto"})
    for i in range(3):
        assert count(out.crop((0, 0, out.width // 2, out.height)), instance(i)) > 40
        assert count(out.crop((out.width // 2, 0, out.width, out.height)), instance(i)) > 40


@pytest.mark.parametrize(
    "wrong", [{"surface": "canion"}, {"optimizers": "sgd,adma"}, {"optimizers": ""}, {"turns": 0}, {"rate": "0.1,0.2"}, {"rate": "-1"}, {"rate": "x"}]
)
def test_what_cannot_be_walked_is_a_usage_error(wrong):
    with pytest.raises(UsageError):
        figures.draw("landscape", None, defaults(landscape) | wrong)


def test_a_way_that_leaves_the_numbers_is_still_drawn():
    out = figures.draw("landscape", None, defaults(landscape) | {"optimizers": "sgd", "rate": "50", "turns": 400})
    assert out.width > 1000
