"""FID, KID, inception score, manifold precision and recall: worked cases, plain loops, scipy's root and torch-fidelity's numbers."""

import math

import numpy as np
import pytest
import torch

from cvtool.metrics import fid, inception_score, kid, manifold_pr


def drawn(count, width, seed, shift=0.0, scale=1.0):
    mixed = np.random.default_rng(99).normal(size=(width, width)) / math.sqrt(width)
    return (np.random.default_rng(seed).normal(size=(count, width)) @ mixed * scale + shift).astype(np.float32)


# ---- FID -----------------------------------------------------------------------------------------------------------


@pytest.mark.system("fid")
@pytest.mark.parametrize("count", [200, 12])  # more and fewer samples than dimensions
def test_fid_of_a_set_with_itself_is_0_and_of_a_shift_its_square(count):
    x = drawn(count, 24, 0).astype(np.float64)
    d = np.linspace(-1, 2, 24)
    g = fid.Gaussian.of(x)
    assert fid.frechet(g, g) == pytest.approx(0, abs=1e-9)
    assert fid.frechet(g, fid.Gaussian.of(x + d)) == pytest.approx(float(d @ d), rel=1e-10)


@pytest.mark.system("fid")
@pytest.mark.parametrize(("n", "m"), [(200, 150), (200, 12), (12, 200), (10, 12)])
def test_fid_is_scipys_sqrtm(n, m):
    from scipy.linalg import sqrtm

    a, b = fid.Gaussian.of(drawn(n, 24, 0)), fid.Gaussian.of(drawn(m, 24, 1, shift=0.3, scale=1.5))
    root = np.real(np.trace(sqrtm(a.covariance @ b.covariance)))
    apart = a.mean - b.mean
    wanted = apart @ apart + np.trace(a.covariance) + np.trace(b.covariance) - 2 * root
    assert fid.trace_of_root(a, b) == pytest.approx(root, rel=1e-6 if min(n, m) < 24 else 1e-10)  # scipy loses digits on singular ones
    assert fid.frechet(a, b) == pytest.approx(wanted, rel=1e-6 if min(n, m) < 24 else 1e-10)


def test_fid_of_singular_covariances_without_their_samples():
    """A column that never changes, and the covariance alone: Cholesky fails, the eigenvectors do not."""
    x, y = drawn(100, 8, 0), drawn(100, 8, 1)
    x[:, 3] = y[:, 3] = 1.0
    g, h = fid.Gaussian.of(x), fid.Gaussian.of(y)
    kept = [0, 1, 2, 4, 5, 6, 7]
    assert fid.trace_of_root(g, h) == pytest.approx(fid.trace_of_root(fid.Gaussian.of(x[:, kept]), fid.Gaussian.of(y[:, kept])), rel=1e-10)


@pytest.mark.system("fid")
def test_fid_kid_and_is_are_torch_fidelitys():
    reference = pytest.importorskip("torch_fidelity.metric_fid")
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    x, y = drawn(120, 16, 0), drawn(90, 16, 1, shift=0.2)
    stats = [reference.fid_features_to_statistics(torch.from_numpy(one)) for one in (y, x)]
    theirs = reference.fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    assert fid.compute(fid.Gaussian.of(x), fid.Gaussian.of(y))["FID"] == pytest.approx(theirs, rel=1e-6)
    theirs = kid_features_to_metric(torch.from_numpy(y), torch.from_numpy(x), kid_subsets=7, kid_subset_size=50, verbose=False)
    mine = kid.compute(x, y, subsets=7, size=50)
    assert mine["KID"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)  # theirs is computed in float32
    assert mine["KID_std"] == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)
    logits = torch.from_numpy(3 * drawn(100, 6, 2))
    theirs = isc_features_to_metric(logits, splits=4)
    mine = inception_score.compute(logits.double().softmax(1).numpy(), splits=4)
    assert mine["IS"] == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert mine["IS_std"] == pytest.approx(theirs["inception_score_std"], rel=1e-6)


def test_kid_against_plain_loops():
    x, y = drawn(7, 5, 0), drawn(7, 5, 1)
    kernel = lambda a, b: (float(a.astype(float) @ b.astype(float)) / 5 + 1) ** 3  # noqa: E731
    same = [kernel(s[i], s[j]) for s in (x, y) for i in range(7) for j in range(7) if i != j]
    wanted = sum(same) / 42 - 2 * sum(kernel(a, b) for a in x for b in y) / 49
    assert kid.mmd2(x, y) == pytest.approx(wanted, rel=1e-9)
    with pytest.raises(ValueError, match="two samples"):
        kid.compute(x[:1], y)


# ---- inception score -----------------------------------------------------------------------------------------------


@pytest.mark.system("inception-score")
def test_the_inception_score_lies_between_1_and_the_classes():
    assert inception_score.score(np.full((30, 5), 0.2)) == pytest.approx(1, abs=1e-12)
    assert inception_score.score(np.tile(np.eye(5), (6, 1))) == pytest.approx(5, abs=1e-12)
    assert inception_score.score(np.tile([[1.0, 0, 0]], (9, 1))) == pytest.approx(1, abs=1e-12)  # certain, and always the same
    p = np.random.default_rng(0).dirichlet(np.ones(5) * 0.3, 200)
    assert 1 < inception_score.score(p) < 5
    assert inception_score.score(p) == pytest.approx(inception_score.from_entropies(p), rel=1e-12)
    assert inception_score.compute(p, splits=1) == {"IS": pytest.approx(inception_score.score(p), rel=1e-12), "IS_std": 0.0}
    with pytest.raises(ValueError, match="do not fall into"):
        inception_score.compute(p[:5], splits=10)


# ---- manifold ------------------------------------------------------------------------------------------------------


def by_loops(real, made, k):
    def reach(points):
        return [sorted(float(np.linalg.norm(p - q)) for j, q in enumerate(points) if j != i)[k - 1] for i, p in enumerate(points)]

    def share(points, centres):
        radii = reach(centres)
        return np.mean([any(np.linalg.norm(p - c) <= r for c, r in zip(centres, radii, strict=True)) for p in points])

    return share(made, real), share(real, made)


@pytest.mark.system("manifold-pr")
def test_manifold_precision_and_recall_in_the_three_cases():
    draw = np.random.default_rng(0)
    real = np.concatenate([draw.normal(0, 1, (60, 4)), draw.normal(30, 1, (60, 4))])
    assert manifold_pr.compute(real, real) == {"manifold_precision": 1, "manifold_recall": 1, "manifold_f1": 1}
    assert manifold_pr.compute(real, real + 500) == {"manifold_precision": 0, "manifold_recall": 0, "manifold_f1": 0}
    one_mode = manifold_pr.compute(real, draw.normal(0, 1, (120, 4)))
    assert one_mode["manifold_recall"] < 0.6 < 0.8 < one_mode["manifold_precision"]


@pytest.mark.system("manifold-pr")
@pytest.mark.parametrize("k", [1, 3])
def test_manifold_precision_and_recall_are_plain_loops_and_torch_fidelitys(k, monkeypatch):
    monkeypatch.setattr(manifold_pr, "ROWS", 16)  # several blocks
    real, made = drawn(50, 6, 0), drawn(40, 6, 1, shift=0.4)
    found = manifold_pr.compute(real, made, k=k)
    assert (found["manifold_precision"], found["manifold_recall"]) == pytest.approx(by_loops(real, made, k))
    reference = pytest.importorskip("torch_fidelity.metric_prc")
    theirs = reference.prc_features_to_metric(torch.from_numpy(made), torch.from_numpy(real), prc_neighborhood=k, verbose=False)
    assert found["manifold_precision"] == pytest.approx(theirs["precision"], abs=1e-6)
    assert found["manifold_recall"] == pytest.approx(theirs["recall"], abs=1e-6)
    with pytest.raises(ValueError, match="neighbour number 40"):
        manifold_pr.compute(real, made, k=40)
