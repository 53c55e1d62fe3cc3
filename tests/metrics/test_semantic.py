"""Accuracy and mean IoU against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from cvtool.metrics.accuracy import Accuracy
from cvtool.metrics.mean_iou import MeanIoU


def test_mean_iou_is_that_of_a_plain_loop() -> None:
    draw = np.random.default_rng(0)
    pairs = [(draw.integers(0, 4, (7, 9)), draw.integers(0, 4, (7, 9))) for _ in range(3)]  # a fifth class is never seen
    metric, inside, outside, right, count = MeanIoU(5), [0] * 5, [0] * 5, 0, 0
    for found, true in pairs:
        true[draw.random(true.shape) < 0.2] = 255
        metric.update(found, true)
        for f, t in zip(found.ravel().tolist(), true.ravel().tolist(), strict=True):
            if t == 255:
                continue
            right, count = right + (f == t), count + 1
            for k in range(5):
                inside[k] += f == k == t
                outside[k] += k in (f, t)
    expected = np.mean([i / o for i, o in zip(inside, outside, strict=True) if o])
    assert metric.compute() == {"mIoU": pytest.approx(expected), "pixel_accuracy": pytest.approx(right / count)}
    assert MeanIoU(3).compute() == {}


def test_accuracy() -> None:
    metric = Accuracy()
    assert metric.compute() == {}
    for found, true in ((1, 1), (0, 1), (None, 0), (2, 2)):
        metric.update(found, true)
    assert metric.compute() == {"accuracy": 0.5}
