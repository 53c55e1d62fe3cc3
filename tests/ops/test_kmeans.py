"""k-means against plain loops, by both distances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvtool.errors import UsageError
from cvtool.ops.kmeans import kmeans, one_minus_iou, squared


@pytest.mark.system("kmeans")
@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from(["l2", "iou"]))
def test_inertia_never_rises_and_the_assignment_is_the_nearest(seed, k, distance):
    points = np.random.default_rng(seed).uniform(1, 50, (40, 2))
    found = kmeans(points, k, distance=distance, seed=seed)
    assert all(b <= a + 1e-9 for a, b in zip(found.inertia, found.inertia[1:], strict=False))
    between = {"l2": squared, "iou": one_minus_iou}[distance](points, found.centres)
    assert np.allclose(between[np.arange(40), found.labels], between.min(1))
    assert found.inertia[-1] == pytest.approx(between.min(1).sum(), rel=1e-9)
    assert set(found.labels) == set(range(k))


def test_distances_against_loops():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(1, 9, (5, 2)), rng.uniform(1, 9, (3, 2))
    for i in range(5):
        for j in range(3):
            shared = min(a[i, 0], b[j, 0]) * min(a[i, 1], b[j, 1])
            assert one_minus_iou(a, b)[i, j] == pytest.approx(1 - shared / (a[i].prod() + b[j].prod() - shared))
            assert squared(a, b)[i, j] == pytest.approx(((a[i] - b[j]) ** 2).sum())


@pytest.mark.system("kmeans")
def test_it_finds_what_lies_apart_and_agrees_with_scikit_learn():
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(1)
    points = np.concatenate([rng.normal(centre, 0.3, (30, 4)) for centre in (0, 5, 10)])
    found = kmeans(points, 3, seed=3)
    theirs = KMeans(3, n_init=5, random_state=0).fit(points)
    assert found.inertia[-1] == pytest.approx(theirs.inertia_, rel=1e-9)
    assert all(len(set(found.labels[i : i + 30])) == 1 for i in (0, 30, 60))


@pytest.mark.parametrize(("points", "k", "distance"), [(np.ones((3, 2)), 4, "l2"), (np.full((3, 2), np.nan), 1, "l2"), (np.ones((3, 2)), 1, "l3")])
def test_what_cannot_be_clustered(points, k, distance):
    with pytest.raises(UsageError):
        kmeans(points, k, distance=distance)


@pytest.mark.system("kmeans")
def test_points_far_from_the_origin_are_told_apart():
    points = np.random.default_rng(2).normal(0, 0.1, (60, 3))
    near, far = kmeans(points, 7, seed=2), kmeans(1e7 + points, 7, seed=2)
    assert (near.labels == far.labels).all()
    assert far.inertia == pytest.approx(near.inertia, rel=1e-4)
