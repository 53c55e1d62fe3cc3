"""Mean IoU and its fellows against plain loops, with both conventions for void."""

from __future__ import annotations

import numpy as np
import pytest

from cvtool.metrics.mean_iou import MeanIoU


def test_mean_iou_is_that_of_a_plain_loop() -> None:
    draw = np.random.default_rng(0)
    classes = 5  # the last one is never seen
    pairs = [(draw.integers(0, 4, (7, 9)), draw.integers(0, 4, (7, 9))) for _ in range(3)]
    metric = MeanIoU(classes)
    right, true_, found_, on_void = [0] * classes, [0] * classes, [0] * classes, [0] * classes
    for found, true in pairs:
        true[draw.random(true.shape) < 0.2] = 255
        found[draw.random(true.shape) < 0.1] = 255  # no class was found there
        metric.update(found, true)
        for f, t in zip(found.ravel().tolist(), true.ravel().tolist(), strict=True):
            if t == 255:
                if f != 255:
                    on_void[f] += 1
                continue
            true_[t] += 1
            if f != 255:
                found_[f] += 1
            right[t] += f == t
    there = [k for k in range(classes) if true_[k] + found_[k]]
    iou = {k: right[k] / (true_[k] + found_[k] - right[k]) for k in there}
    counted = [right[k] / (true_[k] + found_[k] - right[k] + on_void[k]) for k in range(classes) if true_[k] + found_[k] + on_void[k]]
    assert metric.compute() == {
        "mIoU": pytest.approx(np.mean(list(iou.values()))),
        "pixel_accuracy": pytest.approx(sum(right) / sum(true_)),
        "class_accuracy": pytest.approx(np.mean([right[k] / true_[k] for k in range(classes) if true_[k]])),
        "frequency_weighted_IoU": pytest.approx(sum(true_[k] * iou[k] for k in there) / sum(true_)),
        "mIoU_void_counted": pytest.approx(np.mean(counted)),
    }
    rows = metric.per_class()
    assert [row["pixels"] for row in rows] == true_
    assert rows[0]["IoU"] == pytest.approx(iou[0])
    assert rows[4] == {"IoU": None, "accuracy": None, "pixels": 0}
    assert MeanIoU(3).compute() == {}


def test_without_void_both_conventions_agree() -> None:
    metric = MeanIoU(2)
    metric.update([[0, 1], [1, 1]], [[0, 0], [1, 1]])
    values = metric.compute()
    assert values["mIoU"] == values["mIoU_void_counted"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    metric.update([[0]], [[255]])
    values = metric.compute()
    assert values["mIoU"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert values["mIoU_void_counted"] == pytest.approx((1 / 3 + 2 / 3) / 2)
