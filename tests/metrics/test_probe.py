"""Nearest neighbours and a linear map on embeddings, against scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from cvtool.metrics import _probe


def drawn(seed=0, n=90, classes=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return rng.normal(size=(classes, 5))[labels] + 0.8 * rng.normal(size=(n, 5)), labels


def test_nearest_neighbour(monkeypatch):
    vectors, labels = drawn()
    wanted = np.mean(
        [KNeighborsClassifier(1).fit(np.delete(vectors, i, 0), np.delete(labels, i)).predict(vectors[i : i + 1])[0] == labels[i] for i in range(90)]
    )
    assert _probe.nearest(vectors, labels) == wanted
    monkeypatch.setattr(_probe, "BLOCK", 7)
    assert _probe.nearest(vectors, labels) == wanted


def test_linear_map():
    vectors, labels = drawn()
    place = np.array([(labels[:i] == labels[i]).sum() % 2 for i in range(90)])
    right = 0
    for half in (0, 1):
        x, y = vectors[place == half], np.eye(4)[labels[place == half]]
        mean, spread = x.mean(0), x.std(0) + 1e-6
        bias = np.ones((len(x), 1))
        model = Ridge(alpha=1.0, fit_intercept=False).fit(np.hstack([(x - mean) / spread, bias]), y)
        told = model.predict(np.hstack([(vectors[place != half] - mean) / spread, np.ones(((place != half).sum(), 1))])).argmax(1)
        right += (told == labels[place != half]).sum()
    assert _probe.linear(vectors, labels) == right / 90
    assert _probe.probed(vectors, np.zeros(90)) == {}
    assert set(_probe.probed(vectors, labels)) == {"knn_accuracy", "probe_accuracy"}
