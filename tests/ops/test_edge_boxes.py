"""Edge boxes: the score of a plain loop, kinship over paths, and boxes around what has an outline."""

import numpy as np
import pytest

from cvtool.ops import edge_boxes
from cvtool.ops.edge_boxes import KAPPA, Edges, edges, grid, inside, score


def plain(found, box):
    """Equations 2 to 4, a group at a time."""
    x0, y0, x1, y1 = box
    total = 0.0
    state = []
    for gx0, gy0, gx1, gy1 in found.boxes:
        within = gx0 >= x0 and gy0 >= y0 and gx1 <= x1 and gy1 <= y1
        touches = gx0 < x1 and gx1 > x0 and gy0 < y1 and gy1 > y0
        state.append("within" if within else "cut" if touches else "out")
    for i, what in enumerate(state):
        if what == "within":
            kin = [a for (j, k), a in zip(found.kin.tolist(), found.kinship, strict=True) if k == i and state[j] == "cut"]
            total += found.sums[i] * (1 - max(kin, default=0.0))
    w, h = x1 - x0, y1 - y0
    middle = inside(found.strength, np.array([[x0 + w / 4, y0 + h / 4, x1 - w / 4, y1 - h / 4]]))[0]
    return max(0.0, total - middle) / (2 * (w + h) ** KAPPA)


def test_the_score_is_that_of_a_plain_loop(picture):
    grey = picture(96, 72, seed=4)[..., 0].copy()
    grey[20:50, 30:70] = 240
    grey[30:40, 40:60] = 10
    found = edges(grey, least=0.02)
    assert len(found.sums) > 8
    assert len(found.kin) > 4
    boxes = grid(*grey.shape, least=20)[::7]
    some = score(found, boxes)
    assert some.max() > 0
    assert np.allclose(some, [plain(found, box) for box in boxes])


def test_kinship_multiplies_along_a_path_and_the_best_counts():
    labels = np.zeros((12, 60), np.int32)
    for k in range(4):
        labels[5, 3 + 10 * k : 12 + 10 * k] = k + 1  # a straight broken line
    labels[6:11, 12] = 5  # and a turn off it
    middles = np.array([[7, 5], [17, 5], [27, 5], [37, 5], [12, 8.0]])
    along = np.array([0.1, 0, 0, 0, np.pi / 2])
    pairs, values = edge_boxes._kin(labels, middles, along, 5)
    table = np.zeros((5, 5))
    table[tuple(pairs.T)] = values
    assert np.allclose(table, table.T)
    one = np.cos(0.1) ** 2
    assert table[0, 1] == pytest.approx(one)
    assert table[0, 3] == pytest.approx(one * table[1, 2] * table[2, 3])
    assert table[4].max() < 0.3  # hardly akin


def test_the_outline_of_a_thing_has_the_best_box():
    grey = np.full((90, 160), 100, np.uint8)
    grey[30:60, 50:125] = 220
    boxes, values = edge_boxes.edge_boxes(grey, count=50)
    x0, y0, x1, y1 = boxes[0]
    assert x0 < 51
    assert y0 < 31
    assert x1 > 124
    assert y1 > 59
    assert 75 * 30 / ((x1 - x0) * (y1 - y0)) > 0.4  # as near as the grid comes from outside
    assert (np.diff(values) <= 0).all()
    assert len(edge_boxes.edge_boxes(np.full((40, 40), 9, np.uint8))[0]) == 0


def test_every_box_has_one_near_in_the_grid():
    boxes = grid(100, 200, least=8)
    rng = np.random.default_rng(0)
    for _ in range(40):
        high = rng.uniform(12, 60)
        wide = min(190, high * rng.uniform(1, 5))
        x, y = rng.uniform(0, 200 - wide), rng.uniform(0, 100 - high)
        low, top = np.maximum(boxes[:, :2], [x, y]), np.minimum(boxes[:, 2:], [x + wide, y + high])
        shared = np.maximum(0, top - low).prod(1)
        iou = shared / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + wide * high - shared)
        assert iou.max() > 0.5


def test_nothing_is_akin_without_groups():
    found = Edges(np.zeros((5, 5)), np.zeros((0, 4)), np.zeros(0), np.zeros((0, 2), np.int64), np.zeros(0))
    assert score(found, np.array([[0.0, 0, 4, 4]])).tolist() == [0.0]
