"""PCA and whitening against numpy's SVD and scikit-learn, at once and as rows come by."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from cvtool.ops.pca import Streaming, fit


def data(rows=80, width=12, seed=0):
    """Correlated, far from the origin."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, width)) @ rng.normal(size=(width, width)) + 100 * rng.normal(size=width)


def streamed(x, size=7):
    found = Streaming(x.shape[1])
    for start in range(0, len(x), size):
        found.add(x[start : start + size])
    return found


@pytest.mark.system("pca")
@pytest.mark.parametrize("count", [1, 5, 12])
def test_the_components_are_numpys_up_to_sign(count):
    x = data()
    _, singular, rows = np.linalg.svd(x - x.mean(0), full_matrices=False)
    covariance = np.cov(x.T)
    for pca in (fit(x, count), streamed(x).fit(count)):
        components = pca.components.numpy()
        assert np.allclose(np.abs((components * rows[:count]).sum(1)), 1)
        assert np.allclose(pca.variances.numpy(), singular[:count] ** 2 / (len(x) - 1))
        assert np.allclose(covariance @ components.T, components.T * pca.variances.numpy())  # eigenvectors of the covariance
        assert np.allclose(np.abs(pca.transform(x).numpy()), np.abs((x - x.mean(0)) @ rows[:count].T))
        assert (components[np.arange(count), np.abs(components).argmax(1)] > 0).all()
    torch.testing.assert_close(fit(x, count).components, streamed(x).fit(count).components)


@pytest.mark.system("pca")
def test_all_components_rebuild_the_data_and_fewer_do_so_best():
    x = data()
    assert np.abs(fit(x, 12).inverse(fit(x, 12).transform(x)).numpy() - x).max() < 1e-5
    assert np.abs(streamed(x).fit(12).inverse(streamed(x).fit(12).transform(x)).numpy() - x).max() < 1e-5
    errors = [np.square(fit(x, k).inverse(fit(x, k).transform(x)).numpy() - x).sum() for k in range(1, 13)]
    assert all(later < former for former, later in pairwise(errors))
    assert errors[4] == pytest.approx(float(fit(x, 12).variances[5:].sum() * (len(x) - 1)))


@pytest.mark.system("pca")
def test_it_is_scikit_learns():
    from sklearn.decomposition import PCA

    x = data()
    theirs = PCA(5).fit(x)
    assert np.allclose(np.abs((theirs.components_ * fit(x, 5).components.numpy()).sum(1)), 1)
    theirs = PCA(5, whiten=True).fit(x)
    assert np.allclose(np.abs(theirs.transform(x)), np.abs(fit(x, 5, whiten=True).transform(x).numpy()))


@pytest.mark.system("pca")
def test_a_linear_classifier_learns_on_the_reduced_data():
    from sklearn.datasets import load_digits
    from torch import nn

    from cvtool.train import optim

    digits = load_digits()
    x, y = digits.data[:1200], torch.from_numpy(digits.target[:1200])
    pca = fit(x, 20)
    reduced, held = (pca.transform(part).float() for part in (x, digits.data[1200:]))
    assert reduced.shape == (1200, 20)
    torch.manual_seed(0)
    model = nn.Linear(20, 10)
    optimizer = optim.make("adam", lr=0.05)(model.parameters())
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(reduced), y).backward()
        optimizer.step()
    assert float((model(reduced).argmax(1) == y).float().mean()) > 0.94
    assert float((model(held).argmax(1) == torch.from_numpy(digits.target[1200:])).float().mean()) > 0.85


@pytest.mark.system("pca-whiten")
@pytest.mark.parametrize("count", [3, 12])
def test_whitened_data_have_the_identity_for_covariance(count):
    x = data()
    for pca in (fit(x, count, whiten=True), streamed(x).fit(count, whiten=True)):
        y = pca.transform(x).numpy()
        assert np.abs(np.cov(y.T) - np.eye(count)).max() < 1e-3
        plain = fit(x, count).transform(x).numpy()
        assert np.allclose(y, plain / np.sqrt(pca.variances.numpy() + 1e-8))  # divided by the root
        assert not np.allclose(y, plain * pca.variances.numpy())
        assert np.allclose(pca.inverse(y).numpy(), fit(x, count).inverse(plain).numpy())


def test_directions_without_any_variance_stay_finite():
    x = data()
    x = np.concatenate([x, x[:, :3]], 1)  # three columns that say nothing new
    y = fit(x, 15, whiten=True).transform(x)
    assert y.isfinite().all()
    assert streamed(x).fit(15, whiten=True).transform(x).isfinite().all()
    for wrong in (0, 16, 81):
        with pytest.raises(ValueError, match=r"no .* components"):
            fit(x, wrong)
        with pytest.raises(ValueError, match=r"no .* components"):
            streamed(x).fit(wrong)
