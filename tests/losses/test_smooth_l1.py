"""Smooth L1 against torch's two spellings of it."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from cvtool.losses.smooth_l1 import smooth_l1

VALUES = st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=20)


@given(VALUES, st.floats(0.01, 5))
def test_it_equals_torchs_and_the_huber_loss_over_its_delta(pairs, beta):
    a, b = (torch.tensor(v, dtype=torch.float64) for v in zip(*pairs, strict=True))
    found = smooth_l1(a, b, beta=beta, reduction="none")
    torch.testing.assert_close(found, F.smooth_l1_loss(a, b, beta=beta, reduction="none"))
    torch.testing.assert_close(found, F.huber_loss(a, b, delta=beta, reduction="none") / beta)


def test_a_square_then_a_line():
    x = torch.tensor([0.0, 0.5, -0.5, 1.0, 3.0, -3.0])
    assert smooth_l1(x, torch.zeros(6), reduction="none").tolist() == pytest.approx([0, 0.125, 0.125, 0.5, 2.5, 2.5])


def test_without_a_bend_it_is_plain_l1():
    x = torch.randn(20)
    torch.testing.assert_close(smooth_l1(x, torch.zeros(20), beta=0, reduction="none"), x.abs())


@pytest.mark.system("smooth-l1")
def test_a_box_is_the_sum_over_its_four_numbers_with_slope_one_beyond_one():
    draw = torch.Generator().manual_seed(0)
    a, b = (2 * torch.randn(5, 4, generator=draw) for _ in range(2))
    total = 0.0
    for mine, theirs in zip(a.tolist(), b.tolist(), strict=True):
        for x, y in zip(mine, theirs, strict=True):
            total += (x - y) ** 2 / 2 if abs(x - y) <= 1 else abs(x - y) - 0.5
    assert smooth_l1(a, b, reduction="sum").item() == pytest.approx(total, rel=1e-5)
    assert smooth_l1(a, b).item() == pytest.approx(total / 20, rel=1e-5)
    x = torch.tensor([-7.0, -1.5, -0.5, 0.0, 0.25, 1.0, 40.0], requires_grad=True)
    smooth_l1(x, torch.zeros(7), reduction="sum").backward()
    assert x.grad.tolist() == pytest.approx([-1, -1, -0.5, 0, 0.25, 1, 1])
