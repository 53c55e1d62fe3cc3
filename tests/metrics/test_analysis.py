"""Separability, inversion, error distributions, shift robustness and the protocol of metric learning: their own facts."""

import math

import numpy as np
import pytest
import sklearn.metrics

from cvtool.metrics import error_edf, inversion, metric_protocol, separability, shift_robustness

# ---- separability --------------------------------------------------------------------------------------------------


@pytest.mark.system("separability")
def test_a_separable_space_scores_exp_0():
    z = np.random.default_rng(0).normal(size=(2000, 6))
    side = z @ np.array([1.0, -2, 0.5, 0, 0, 3])
    one = separability.attribute(z, 1 / (1 + np.exp(-4 * side)))
    assert one.entropy() < 1e-9
    assert separability.total(np.array([one.entropy()]))["separability"] == pytest.approx(1, abs=1e-9)


@pytest.mark.system("separability")
def test_the_least_confident_half_is_dropped():
    draw = np.random.default_rng(1)
    z, p = draw.normal(size=(400, 3)), draw.random(400)
    one = separability.attribute(z, p)
    assert len(one.rows) == 200
    left = np.setdiff1d(np.arange(400), one.rows)
    assert np.abs(p[one.rows] - 0.5).min() >= np.abs(p[left] - 0.5).max()
    assert round(separability.SAMPLES * 0.5) == 100_000
    np.testing.assert_array_equal(one.answer, p[one.rows] > 0.5)


@pytest.mark.system("separability")
def test_what_no_plane_divides_keeps_its_entropy():
    """An attribute that has nothing to do with the latents: H(Y|X) is about H(Y), and equals scikit-learn's H(Y) - I(Y; X)."""
    draw = np.random.default_rng(2)
    one = separability.attribute(draw.normal(size=(3000, 2)), np.where(draw.random(3000) < 0.3, 0.95, 0.05))
    share = one.answer.mean()
    entropy = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    assert one.entropy() == pytest.approx(entropy - sklearn.metrics.mutual_info_score(one.answer, one.side), abs=1e-9)
    assert separability.total(np.full(40, math.log(2)))["separability"] == pytest.approx(2.0**40, rel=1e-9)
    with pytest.raises(ValueError, match="the same answer"):
        separability.attribute(np.zeros((10, 2)), np.full(10, 0.9))


# ---- inversion -----------------------------------------------------------------------------------------------------


@pytest.mark.system("inversion-eval")
def test_the_18_codes_do_not_vary_in_w_and_w_star_and_do_in_their_powers():
    draw = np.random.default_rng(0)
    samples = draw.normal(size=(500, 8)) @ draw.normal(size=(8, 8)) + 3
    w = samples[:5]
    far = w + 40
    spaces = {
        "W": np.repeat(w[:, None], 18, 1),
        "W_*": np.repeat(far[:, None], 18, 1),
        "W^k": samples[: 5 * 18].reshape(5, 18, 8),
        "W_*^k": samples[: 5 * 18].reshape(5, 18, 8) + 40,
    }
    known = inversion.Range(samples)
    for name, codes in spaces.items():
        distance = known.distance(codes)
        assert inversion.space(codes, distance) == name
        if name.endswith("^k"):
            assert (inversion.variance(codes) > 0.1).all()
        else:
            np.testing.assert_allclose(inversion.variance(codes), 0, atol=1e-20)
        assert (np.median(distance) > 2) == ("*" in name)
    mean = np.mean([known.distance(np.repeat(one[None, None], 18, 1))[0] for one in samples])
    assert mean == pytest.approx(1, abs=0.1)
    covariance = np.cov(samples.T)
    off = far[0] - samples.mean(0)
    assert known.distance(spaces["W_*"])[0] == pytest.approx(math.sqrt(off @ np.linalg.solve(covariance, off) / 8), rel=1e-6)


@pytest.mark.system("inversion-eval")
def test_distortion_and_editing_consistency():
    true, made = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 51, np.uint8)
    assert inversion.distortion(true, made) == pytest.approx(0.04)
    codes = np.random.default_rng(0).normal(size=(3, 18, 4))
    np.testing.assert_allclose(inversion.consistency(codes, codes), 0)
    np.testing.assert_allclose(inversion.consistency(codes, codes + 0.5), 0.25)


# ---- error EDF -----------------------------------------------------------------------------------------------------


@pytest.mark.system("error-edf")
def test_the_edf_is_numpys_mean():
    errors = np.random.default_rng(0).random(50).round(1)  # with ties
    at = np.linspace(0, 1, 21).round(2)
    np.testing.assert_array_equal(error_edf.edf(errors, at), [np.mean(errors < e) for e in at])


@pytest.mark.system("error-edf")
def test_a_perfect_space_is_a_step_to_1_at_0():
    perfect = np.zeros(20)
    np.testing.assert_array_equal(error_edf.edf(perfect, np.array([0.0, 1e-9, 0.5, 1.0])), [0, 1, 1, 1])
    x, f = error_edf.curve(perfect)
    assert (x[0], f[0], f[-1]) == (0, 0, 1)
    assert np.trapezoid(f, x) == pytest.approx(1)
    assert error_edf.compute(np.full(10, 0.4), perfect) == {"edf_area": 1, "min_error": 0, "median_error": 0, "better_than_gt": 1}


@pytest.mark.system("error-edf")
def test_of_more_than_500_models_500_are_drawn():
    errors = np.random.default_rng(0).random(800)
    rows = error_edf.chosen(errors, 500, 0)
    assert len(set(rows.tolist())) == 500
    np.testing.assert_array_equal(rows, error_edf.chosen(errors, 500, 0))
    assert not np.array_equal(rows, error_edf.chosen(errors, 500, 1))
    x, f = error_edf.curve(errors)
    assert np.trapezoid(f, x) == pytest.approx(1 - errors.mean(), abs=1e-12)


def test_weights_of_errors_are_repetitions():
    draw = np.random.default_rng(3)
    true, found, weights = draw.random(9).round(1), draw.random(12).round(1), draw.integers(0, 3, 12)
    assert error_edf.compute(true, found, weights) == pytest.approx(error_edf.compute(true, np.repeat(found, weights)))
    wins = np.mean([(f < t) + 0.5 * (f == t) for f in found for t in true])
    assert error_edf.compute(true, found)["better_than_gt"] == pytest.approx(wins)
    assert error_edf.compute(true, found)["median_error"] == pytest.approx(np.median(found))


# ---- shift ---------------------------------------------------------------------------------------------------------


@pytest.mark.system("shift-robustness")
def test_gain_drop_and_reliance():
    right = {"clean": np.array([1, 1, 0, 0.0]), "cue": np.array([1, 1, 1, 0.0]), "swapped": np.array([0, 0, 1, 0.0])}
    found = shift_robustness.compute(right)
    assert found == {
        "accuracy_clean": 0.5, "accuracy_cue": 0.75, "accuracy_swapped": 0.25, "cue_gain": 0.25, "cue_drop": 0.25, "cue_reliance": 0.5,
    }  # fmt: skip
    assert set(shift_robustness.compute({"clean": right["clean"], "cue": right["cue"]})) == {"accuracy_clean", "accuracy_cue", "cue_gain"}
    assert shift_robustness.compute(right, np.array([0, 0, 2, 1]))["accuracy_cue"] == pytest.approx(2 / 3)


# ---- protocol ------------------------------------------------------------------------------------------------------

FIXED = {"backbone": "resnet.20", "data": "cub", "schedule": "100 epochs"}
ROWS = [
    FIXED | {"loss": loss, "seed": seed, "recall@1": 0.5 + 0.01 * seed + 0.1 * (loss == "triplet")}
    for loss in ("contrastive", "triplet")
    for seed in (0, 1, 2)
]
DECLARED = FIXED | {"seeds": [0, 1, 2]}


@pytest.mark.system("metric-protocol")
def test_the_table_has_mean_and_deviation_over_the_seeds():
    assert metric_protocol.problems(ROWS, DECLARED) == []
    found = metric_protocol.table(ROWS, "recall@1")
    assert found["contrastive"] == {"mean": pytest.approx(0.51), "std": pytest.approx(np.std([0.5, 0.51, 0.52], ddof=1))}
    assert found["triplet"]["mean"] == pytest.approx(0.61)
    twice = metric_protocol.table(ROWS, "recall@1", np.array([2, 0, 1]), [0, 1, 2])
    assert twice["contrastive"] == {"mean": pytest.approx(1.52 / 3), "std": pytest.approx(np.std([0.5, 0.5, 0.52], ddof=1))}


@pytest.mark.system("metric-protocol")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"backbone": "resnet.56"}, "differ in backbone"),
        ({"data": "sop"}, "differ in data"),
        ({"schedule": "200 epochs"}, "differ in schedule"),
        ({"seed": 7}, "run with the seeds"),
        ({"selected_on": "test"}, "chosen on the test set"),
        ({"batch_size": 8}, "batch_size is not known of"),
    ],
)
def test_what_is_no_fair_comparison(change, told):
    rows = [*ROWS[:-1], ROWS[-1] | change]
    assert any(told in line for line in metric_protocol.problems(rows, DECLARED))


def test_runs_that_agree_but_not_with_what_was_declared():
    assert "differ in backbone" in metric_protocol.problems(ROWS, DECLARED | {"backbone": "vgg.16"})[0]
