"""Weighted boxes fusion: the paper's two formulas on boxes that can be worked out by hand, and what must hold of any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvtool.ops.box_fusion import fuse


def one(*rows: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of x0, y0, x1, y1, score, class."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return table[:, :4], table[:, 4], table[:, 5].astype(np.int64)


def fused(*looks: tuple[np.ndarray, np.ndarray, np.ndarray], **options: float):
    return fuse([x[0] for x in looks], [x[1] for x in looks], [x[2] for x in looks], **options)


def test_a_box_that_two_of_three_looks_found() -> None:
    done = fused(one((0, 0, 10, 10, 0.9, 1)), one((1, 0, 11, 10, 0.3, 1), (50, 50, 60, 60, 0.6, 1)), one((0, 0, 10, 10, 0.8, 2)))
    assert done.labels.tolist() == [1, 2, 1]  # other classes and other places stay alone
    assert done.scores == pytest.approx([0.4, 0.8 / 3, 0.2])  # (0.9 + 0.3) / 2 * 2 / 3; alone, a third
    assert done.boxes[0] == pytest.approx([0.25, 0, 10.25, 10])  # (0.9 * 0 + 0.3 * 1) / 1.2
    assert done.best.tolist() == [0, 3, 2]


def test_boxes_of_one_look_are_never_joined() -> None:
    done = fused(one((0, 0, 10, 10, 0.9, 0), (1, 0, 11, 10, 0.8, 0)), one((0, 0, 10, 10, 0.7, 0)))
    assert len(done.boxes) == 2
    assert done.boxes[0] == pytest.approx([0, 0, 10, 10])
    assert done.scores == pytest.approx([0.8, 0.4])


def test_just_at_the_threshold_is_not_above_it() -> None:
    for iou, count in ((0.6, 1), (0.8, 2)):
        assert len(fused(one((0, 0, 10, 10, 0.9, 0)), one((0, 0, 10, 8, 0.7, 0)), iou=iou).boxes) == count


def test_nothing_found() -> None:
    done = fused(one(), one())
    assert done.boxes.shape == (0, 4)
    assert fuse([], [], []).scores.shape == (0,)


@given(
    st.lists(st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 20)] * 2, st.integers(1, 100), st.integers(0, 2)), max_size=12), st.integers(1, 4)
)
def test_looks_that_agree_say_what_one_says(rows: list[tuple[int, ...]], count: int) -> None:
    look = one(*[(x, y, x + w, y + h, score / 100, label) for x, y, w, h, score, label in rows])
    done = fused(*[look] * count)
    order = np.argsort(-done.scores, kind="stable")
    assert (order == np.arange(len(order))).all()
    found = sorted(zip(done.labels.tolist(), done.scores.round(9).tolist(), done.boxes.round(6).tolist(), strict=True))
    assert sum(done.scores) <= sum(look[1]) + 1e-9
    distinct = len({(*row[:4], row[5]) for row in rows}) == len(rows)
    if distinct and _apart(look[0]):
        assert found == sorted(zip(look[2].tolist(), look[1].round(9).tolist(), look[0].tolist(), strict=True))


def _apart(boxes: np.ndarray) -> bool:
    sides = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    common = np.maximum(0, sides).prod(-1)
    return not (common - np.diag(np.diag(common))).any()
