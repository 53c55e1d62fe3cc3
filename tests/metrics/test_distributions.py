"""Entropy, KL, JS and EMD: the worked figures, their identities, and other libraries' numbers."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtool.metrics import emd, entropy, js, kl

FAIR, LOADED, CERTAIN = np.array([0.5, 0.5]), np.array([0.05, 0.95]), np.array([0.0, 1.0])


@st.composite
def two(draw):
    """Two distributions over the same outcomes, some of them impossible."""
    size = draw(st.integers(2, 8))
    sides = [np.array(draw(st.lists(st.integers(0, 9), min_size=size, max_size=size)), float) + np.eye(size)[draw(st.integers(0, size - 1))]
             for _ in range(2)]  # fmt: skip
    return tuple(one / one.sum() for one in sides)


@pytest.mark.system("entropy")
def test_information_and_entropy_are_the_worked_figures():
    assert entropy.information(0.5) == 1
    assert entropy.information(0.05) == pytest.approx(4.3219, abs=5e-5)
    assert entropy.information(0.95) == pytest.approx(0.0740, abs=5e-5)
    assert entropy.information(0.0) == math.inf
    assert entropy.entropy(FAIR) == 1
    assert entropy.entropy(LOADED) == pytest.approx(0.2864, abs=5e-5)
    assert entropy.entropy(CERTAIN) == 0
    assert entropy.entropy(FAIR, base=math.e) == pytest.approx(math.log(2))


@given(two())
def test_entropy_is_scipys(pair):
    p, _ = pair
    assert entropy.entropy(p) == pytest.approx(scipy.stats.entropy(p, base=2), abs=1e-12)


@pytest.mark.system("entropy")
def test_monte_carlo_converges_with_the_root_of_n():
    p = np.array([0.1, 0.2, 0.3, 0.4])
    exact = float(p @ np.arange(4) ** 2)
    errors = []
    for count in (100, 1600, 25600):
        off = [entropy.sampled(p, count, f=lambda x: x.astype(float) ** 2, seed=seed)[0] - exact for seed in range(60)]
        errors.append(float(np.sqrt(np.mean(np.square(off)))))
        value, told = entropy.sampled(p, count, f=lambda x: x.astype(float) ** 2, seed=1)
        assert told == pytest.approx(errors[-1], rel=0.5)
        assert abs(value - exact) < 5 * told
    # 16 times the samples, a quarter of the error
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.35)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.35)
    value, told = entropy.sampled(LOADED, 20_000, seed=0)
    assert abs(value - entropy.entropy(LOADED)) < 4 * told < 0.05


@pytest.mark.system("kl")
def test_kl_is_the_worked_figures_in_nats():
    assert kl.kl(FAIR, LOADED) == pytest.approx(0.8304, abs=5e-5)
    assert kl.kl(LOADED, FAIR) == pytest.approx(0.4946, abs=5e-5)
    assert kl.kl(CERTAIN, FAIR) == pytest.approx(0.6931, abs=5e-5)
    assert kl.kl(FAIR, CERTAIN) == math.inf


@pytest.mark.system("kl")
@given(two())
def test_cross_entropy_is_entropy_and_kl(pair):
    p, q = pair
    assert kl.kl(p, q) == pytest.approx(scipy.stats.entropy(p, q), abs=1e-12)
    if np.isfinite(kl.kl(p, q)):
        assert abs(kl.cross_entropy(p, q) - entropy.entropy(p, base=math.e) - kl.kl(p, q)) < 1e-12
    else:
        assert kl.cross_entropy(p, q) == math.inf


@pytest.mark.system("kl")
def test_what_training_loses_on_soft_targets_is_entropy_and_kl():
    torch = pytest.importorskip("torch")
    p, logits = np.array([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]]), np.array([[0.1, 2.0, -1.0], [1.0, 0.5, 0.0]])
    q = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(p)).item()
    assert loss == pytest.approx(float((entropy.entropy(p, base=math.e) + kl.kl(p, q)).mean()), abs=1e-12)


@pytest.mark.system("js")
@given(two())
def test_js_is_symmetric_bounded_and_scipys(pair):
    p, q = pair
    value = js.js(p, q)
    assert value == js.js(q, p)
    assert 0 <= value <= math.log(2)
    assert value == pytest.approx(scipy.spatial.distance.jensenshannon(p, q) ** 2, abs=1e-12)
    assert js.js(p, p) == 0


@pytest.mark.system("js")
def test_js_of_disjoint_ones_is_ln_2_exactly():
    p = np.array([0.1, 0.2, 0.7, 0, 0, 0])
    q = np.array([0, 0, 0, 0.3, 0.7, 0])
    assert js.js(p, q) == math.log(2)
    assert js.js(np.zeros(3), np.zeros(3)) == 0  # never NaN


@pytest.mark.system("emd")
@settings(max_examples=40)
@given(two())
def test_emd_is_the_linear_program_and_scipys(pair):
    p, q = pair
    bins = np.arange(len(p))
    work, plan = emd.transport(p, q, np.abs(bins[:, None] - bins))
    assert emd.emd(p, q) == pytest.approx(work, abs=1e-9)
    assert emd.emd(p, q) == pytest.approx(scipy.stats.wasserstein_distance(bins, bins, p, q), abs=1e-12)
    np.testing.assert_allclose(plan.sum(1), p, atol=1e-9)  # what leaves i is p(i); the text's sums are swapped
    np.testing.assert_allclose(plan.sum(0), q, atol=1e-9)


@pytest.mark.system("emd")
@pytest.mark.parametrize("shift", [0, 1, 3])
def test_a_shift_by_k_bins_costs_k(shift):
    p = np.zeros(8)
    p[1:4] = 0.2, 0.5, 0.3
    assert emd.emd(p, np.roll(p, shift)) == pytest.approx(shift, abs=1e-12)


def test_transport_of_unequal_masses_is_refused():
    with pytest.raises(ValueError, match="same sum"):
        emd.transport(FAIR, FAIR * 2, np.ones((2, 2)))
