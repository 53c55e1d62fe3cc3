"""The pixel weights of U-Net against the equation written out, and the loss they weigh."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtool.losses.cross_entropy import cross_entropy
from cvtool.losses.weighted_ce import apart, border_weights, weighted_ce


@pytest.mark.system("weighted-ce")
def test_with_ones_it_is_the_plain_cross_entropy_and_else_a_sum_over_pixels():
    draw = torch.Generator().manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5, generator=draw), torch.randint(0, 3, (2, 4, 5), generator=draw)
    target[0, 0] = 255
    torch.testing.assert_close(weighted_ce(logits, target, weights=torch.ones(2, 4, 5)), cross_entropy(logits, target))
    weights = torch.rand(2, 4, 5, generator=draw)
    total, count = 0.0, 0
    p = logits.softmax(1)
    for b in range(2):
        for y in range(4):
            for x in range(5):
                if target[b, y, x] != 255:
                    total -= weights[b, y, x].item() * math.log(p[b, target[b, y, x], y, x].item())
                    count += 1
    assert weighted_ce(logits, target, weights=weights).item() == pytest.approx(total / count, rel=1e-5)
    assert total > 0  # a text prints the sum without its minus sign


def written_out(objects, w0, sigma):
    """Equation 2, pixel by pixel."""
    numbers = [n for n in np.unique(objects) if n]
    out = np.ones(objects.shape)
    for y in range(objects.shape[0]):
        for x in range(objects.shape[1]):
            if objects[y, x] == 0 and len(numbers) > 1:
                d1, d2 = sorted(min(math.hypot(y - a, x - b) for a, b in np.argwhere(objects == n)) for n in numbers)[:2]
                out[y, x] += w0 * math.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
    return out


@pytest.mark.system("weighted-ce")
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 6), st.integers(1, 6)), max_size=5), st.sampled_from([0.7, 2.0, 5.0])
)
def test_border_weights_are_the_equations(rectangles, sigma):
    objects = np.zeros((22, 25), int)
    for number, (y, x, h, w) in enumerate(rectangles, 1):
        objects[y : y + h, x : x + w] = 3 * number
    np.testing.assert_allclose(border_weights(objects, sigma=sigma), written_out(apart(objects), 10.0, sigma), atol=1e-5)


@pytest.mark.system("weighted-ce")
def test_pixels_between_objects_that_touch_are_raised():
    gap = np.zeros((20, 21), int)
    gap[5:15, 2:10], gap[5:15, 11:19] = 1, 2  # a column between them
    weights = border_weights(gap)
    assert weights[10, 10] == pytest.approx(1 + 10 * math.exp(-4 / 50), rel=1e-5)
    assert weights[10, 10] > 5 * weights[1, 1]
    assert (weights[gap > 0] == 1).all()
    assert (weights >= 1).all()
    touching = gap.copy()
    touching[5:15, 10] = 1
    assert apart(touching)[10].tolist() == [0, 0] + [1] * 8 + [0] * 2 + [2] * 7 + [0, 0]
    raised = border_weights(touching)
    assert raised[10, 10] > 8
    assert raised[10, 11] > 8
    assert (border_weights(np.where(gap == 1, 1, 0)) == 1).all()  # nothing to be kept apart from


def test_a_large_map_of_many_objects_is_quick_and_right_at_a_distance():
    objects = np.zeros((200, 200), int)
    for i in range(10):
        for j in range(10):
            objects[20 * i + 2 : 20 * i + 17, 20 * j + 2 : 20 * j + 17] = 10 * i + j + 1
    weights = border_weights(objects)
    assert weights[9, 18] == pytest.approx(1 + 10 * math.exp(-(6**2) / 50), rel=1e-5)
    assert weights[19, 19] == pytest.approx(1 + 10 * math.exp(-((2 * math.hypot(3, 3)) ** 2) / 50), rel=1e-5)
