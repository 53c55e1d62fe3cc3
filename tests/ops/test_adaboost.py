"""AdaBoost: the texts' example of eight messages, and the best stump against all stumps there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvtool.ops.adaboost import adaboost, best_stump, beta, reweigh


@pytest.mark.system("adaboost")
def test_the_spam_example():
    """Eight messages; three rounds with two, two and five (by weight) errors: e = 2/8, 2/12, 5/20, beta 3, 5, 3, votes ln 3, ln 5, ln 3."""
    weights = np.full(8, 1 / 8)
    first = np.array([1, 1, 0, 0, 0, 0, 0, 0], bool)
    error = weights[first].sum()
    assert (error, beta(error), np.log(beta(error))) == pytest.approx((2 / 8, 3, np.log(3)))
    weights = reweigh(weights, first, error)
    assert weights == pytest.approx([3 / 12] * 2 + [1 / 12] * 6)
    second = np.array([0, 0, 1, 1, 0, 0, 0, 0], bool)
    error = weights[second].sum()
    assert (error, beta(error)) == pytest.approx((2 / 12, 5))
    weights = reweigh(weights, second, error)
    assert weights == pytest.approx([3 / 20] * 2 + [5 / 20] * 2 + [1 / 20] * 4)
    third = np.array([0, 0, 1, 0, 0, 0, 0, 0], bool)
    error = weights[third].sum()
    assert (error, beta(error), np.log(beta(error))) == pytest.approx((5 / 20, 3, np.log(3)))


@pytest.mark.system("adaboost")
@given(st.integers(0, 100_000))
def test_the_best_stump_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 4, (9, 3)).astype(float), rng.choice([-1, 1], 9)
    weights = rng.dirichlet(np.ones(9))
    feature, threshold, polarity, error = best_stump(x, y, weights)
    least = min(weights[np.where(p * (x[:, f] - t) >= 0, 1, -1) != y].sum() for f in range(3) for t in (-0.5, 0.5, 1.5, 2.5, 3.5) for p in (1, -1))
    assert error == pytest.approx(least)
    assert weights[np.where(polarity * (x[:, feature] - threshold) >= 0, 1, -1) != y].sum() == pytest.approx(error)


@pytest.mark.system("adaboost")
def test_votes_make_weak_learners_strong():
    """A diagonal border, which no single stump can draw; a sum of exactly 0 counts as yes."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (300, 2))
    y = np.where(x.sum(1) > 0, 1, -1)
    found = adaboost(x, y, rounds=80)
    alone = (np.where(found.say(x)[:, 0] >= 0, 1, -1) != y).mean()
    together = (np.where(found.decide(x) >= 0, 1, -1) != y).mean()
    assert 0.1 < alone < 0.5
    assert together < 0.03
    assert found.vote == pytest.approx(np.log((1 - found.error) / found.error))
    assert (found.error < 0.5).all()


def test_it_ends_where_nothing_is_left_to_learn():
    x = np.arange(6.0)[:, None]
    assert len(adaboost(x, np.array([-1, -1, -1, 1, 1, 1]), rounds=9).vote) == 1
    assert len(adaboost(np.ones((4, 1)), np.array([1, -1, 1, -1]), rounds=9).vote) == 0
