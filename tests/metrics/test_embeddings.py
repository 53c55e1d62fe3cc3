"""Retrieval, clustering, verification, one-shot and linear SVM, against plain loops and scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtool.metrics import _neighbours, linear_svm, mean_average_precision_at_r, nmi, one_shot, recall_at_k, verification


def drawn(count=60, classes=7, width=5, seed=0, spread=0.8):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count)
    return draw.normal(size=(classes, width))[labels] + spread * draw.normal(size=(count, width)), labels


def ranking(vectors, labels, i, distance):
    """The other rows, nearest first."""

    def near(j):
        a, b = vectors[i], vectors[j]
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b) if distance == "cosine" else -float(np.linalg.norm(a - b))

    return sorted((j for j in range(len(vectors)) if j != i), key=lambda j: -near(j))


@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_recall_and_map_are_plain_loops(distance, monkeypatch):
    monkeypatch.setattr(_neighbours, "ROWS", 16)
    vectors, labels = drawn()
    labels[0] = 99  # alone in its class
    found = _neighbours.ranked(vectors, labels, None, labels, int(np.bincount(labels).max()), distance)
    recall, mapped = recall_at_k.values(found, k=3)["recall@3"], mean_average_precision_at_r.values(found)
    cut = mean_average_precision_at_r.values(found, k=4)["mAP@4"]
    for i in range(len(vectors)):
        order = ranking(vectors, labels, i, distance)
        hits = [labels[j] == labels[i] for j in order]
        r = sum(hits)
        if not r:
            assert np.isnan([recall[i], mapped["mAP@R"][i], cut[i]]).all()
            continue
        assert recall[i] == any(hits[:3])
        assert mapped["R-precision"][i] == pytest.approx(sum(hits[:r]) / r)
        assert mapped["mAP@R"][i] == pytest.approx(sum(hits[n] * sum(hits[: n + 1]) / (n + 1) for n in range(r)) / r)
        least = min(r, 4)
        assert cut[i] == pytest.approx(sum(hits[n] * sum(hits[: n + 1]) / (n + 1) for n in range(least)) / least)


def test_a_gallery_is_searched_whole_and_ties_go_by_place():
    queries, labels = np.eye(3), np.array([0, 1, 2])
    gallery, theirs = np.repeat(np.eye(3), 2, axis=0), np.array([5, 0, 1, 1, 2, 2])
    found = _neighbours.ranked(queries, labels, gallery, theirs, 2, "cosine")
    np.testing.assert_array_equal(found.hits, [[False, True], [True, True], [True, True]])
    np.testing.assert_array_equal(found.relevant, [1, 2, 2])


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 60))
def test_the_nearest_are_those_of_a_stable_sort(seed, depth, width):
    depth = min(depth, width)
    scores = np.random.default_rng(seed).integers(0, 6, (4, width)).astype(float)
    np.testing.assert_array_equal(_neighbours.nearest(scores, depth), np.argsort(-scores, axis=1, kind="stable")[:, :depth])


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=30))
def test_nmi_is_scikit_learns(pairs):
    classes, clusters = (np.array(column) for column in zip(*pairs, strict=True))
    wanted = sklearn.metrics.normalized_mutual_info_score(classes, clusters)
    assert nmi.nmi(nmi.table(classes, clusters)) == pytest.approx(wanted, abs=1e-9)
    doubled = nmi.nmi(nmi.table(np.repeat(classes, 2), np.repeat(clusters, 2)))
    assert nmi.nmi(nmi.table(classes, clusters, np.full(len(classes), 2))) == pytest.approx(doubled, abs=1e-12)


def test_verification_is_scikit_learns_roc():
    draw = np.random.default_rng(0)
    same = draw.random(300) < 0.4
    scores = np.round(draw.normal(size=300) + 1.2 * same, 1)  # with ties
    curve = verification.Curve(scores, same)
    found = curve.measure(far=0.1)
    far, tar, _ = sklearn.metrics.roc_curve(same, scores, drop_intermediate=False)
    assert found["AUC"] == pytest.approx(sklearn.metrics.roc_auc_score(same, scores), abs=1e-12)
    assert found["TAR@FAR=0.1"] == pytest.approx(tar[far <= 0.1].max(), abs=1e-12)
    best = max(np.mean((scores >= t) == same) for t in [*np.unique(scores), np.inf])
    assert found["verification_accuracy"] == pytest.approx(best, abs=1e-12)
    refused = 1 - np.interp(found["EER"], far, tar)
    assert found["EER"] == pytest.approx(refused, abs=1e-9)
    weights = draw.integers(0, 3, 300)
    again = verification.Curve(np.repeat(scores, weights), np.repeat(same, weights)).measure(far=0.1)
    assert curve.measure(far=0.1, weights=weights) == pytest.approx(again, abs=1e-12)
    assert np.isnan(curve.measure(weights=same.astype(float))["AUC"])
    with pytest.raises(ValueError, match="false accept rate"):
        curve.measure(far=2)


def test_one_shot_is_certain_of_far_classes_and_a_guess_without_any():
    vectors, labels = drawn(count=200, classes=8, width=64, spread=0.01)
    assert one_shot.episodes(vectors, labels, "l2", ways=5, episodes=50)[1].mean() == 1
    queries, right = one_shot.episodes(np.random.default_rng(1).normal(size=(200, 8)), labels, "cosine", ways=4, shots=2, episodes=400)
    assert right.mean() == pytest.approx(0.25, abs=0.1)
    assert set(queries) <= set(range(200))
    with pytest.raises(ValueError, match="there are 8"):
        one_shot.episodes(vectors, labels, "l2", ways=9)


@pytest.mark.system("inception-score")
def test_a_linear_svm_on_features_tells_classes_that_planes_divide():
    vectors, labels = drawn(count=100, classes=3, width=6, spread=0.05)
    assert linear_svm.answers(vectors, labels).mean() == 1
    noise = linear_svm.answers(np.random.default_rng(0).normal(size=(100, 6)), np.arange(100) % 2)
    assert 0.25 < noise.mean() < 0.75
    with pytest.raises(ValueError, match="each of 5 pictures"):
        linear_svm.answers(vectors[:6], np.array([0, 0, 0, 0, 0, 1]))
