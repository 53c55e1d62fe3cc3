"""Accuracy, the confusion matrix and calibration against scikit-learn and plain loops."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as theirs

from cvtool.metrics.accuracy import Accuracy
from cvtool.metrics.calibration import CalibrationError
from cvtool.metrics.confusion import Confusion


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """True classes N, and scores N 9; class 8 never occurs, class 7 is never found."""
    draw = np.random.default_rng(4)
    true = draw.integers(0, 8, 200)
    scores = draw.random((200, 9))
    scores[np.arange(200), true] += 0.3
    scores[:, 7] = 0.0
    return true, scores / scores.sum(1, keepdims=True)


def test_accuracy_and_top_five_are_scikit_learns(drawn) -> None:
    true, scores = drawn
    metric = Accuracy(9)
    assert metric.compute() == {}
    for row, label in zip(scores, true.tolist(), strict=True):
        metric.update(np.argsort(-row, kind="stable")[:5].tolist(), label)
    assert metric.compute() == {
        "accuracy": pytest.approx(theirs.accuracy_score(true, scores.argmax(1))),
        "top5_accuracy": pytest.approx(theirs.top_k_accuracy_score(true, scores, k=5, labels=range(9))),
    }


def test_top_five_is_left_out_where_it_says_nothing() -> None:
    few, short = Accuracy(5), Accuracy(9)
    for metric in (few, short):
        metric.update([2, 1] if metric is short else [4, 3, 2, 1, 0], 1)
        metric.update([], 1)
        assert metric.compute() == {"accuracy": 0.0}


def test_precision_recall_and_f1_are_scikit_learns(drawn) -> None:
    true, scores = drawn
    found = scores.argmax(1)
    metric = Confusion(9)
    assert metric.compute() == {}
    for f, t in zip(found.tolist(), true.tolist(), strict=True):
        metric.update(f, t)
    assert np.array_equal(metric.matrix[:, :9], theirs.confusion_matrix(true, found, labels=range(9)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision, recall, f1, count = theirs.precision_recall_fscore_support(true, found, labels=range(9), zero_division=np.nan)
        means = theirs.precision_recall_fscore_support(true, found, average="macro", zero_division=0)
        balanced = theirs.balanced_accuracy_score(true, found)
    for k, row in enumerate(metric.per_class()):
        for value, expected in ((row["precision"], precision[k]), (row["recall"], recall[k]), (row["f1"], f1[k])):
            assert value == (None if math.isnan(expected) else pytest.approx(expected)), k
        assert row["pictures"] == count[k]
    expected = {"balanced_accuracy": balanced, "precision": means[0], "recall": means[1], "f1": means[2]}
    assert metric.compute() == {key: pytest.approx(value) for key, value in expected.items()}


def test_an_answer_that_is_no_class_is_nobodys_false_alarm() -> None:
    metric = Confusion(2)
    for found, true in ((0, 0), (None, 0), (7, 1), (-1, 1), (1, 1)):
        metric.update(found, true)
    assert metric.matrix.tolist() == [[1, 0, 1], [0, 1, 2]]
    assert [row["precision"] for row in metric.per_class()] == [1.0, 1.0]
    assert [row["recall"] for row in metric.per_class()] == [1 / 2, 1 / 3]


def test_calibration_error_is_that_of_a_plain_loop() -> None:
    draw = np.random.default_rng(1)
    confidence = [*draw.random(300).tolist(), 0.0, 1.0, 1 / 15, 2 / 15]
    right = [bool(draw.random() < c) for c in confidence]
    metric = CalibrationError(15)
    assert metric.compute() == {}
    for c, r in zip(confidence, right, strict=True):
        metric.update(c, r)
    expected = 0.0
    for b in range(15):
        inside = [(c, r) for c, r in zip(confidence, right, strict=True) if b / 15 < c <= (b + 1) / 15 or (b == 0 and c == 0)]
        if inside:
            gap = abs(sum(r for _, r in inside) / len(inside) - sum(c for c, _ in inside) / len(inside))
            expected += len(inside) / len(confidence) * gap
    assert metric.compute() == {"ECE": pytest.approx(expected)}
    with pytest.raises(ValueError, match="lies in"):
        metric.update(1.5, True)


def test_a_calibrated_forecast_has_no_error_and_a_boaster_all() -> None:
    good, bad = CalibrationError(), CalibrationError()
    for i in range(10):
        good.update(0.8, i < 8)
        bad.update(1.0, False)
    assert good.compute()["ECE"] == pytest.approx(0)
    assert bad.compute()["ECE"] == 1
