"""The losses of maps that tell where text is: equal to their formulas and to plain loops, zero where all is right."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvtool.losses.quad import quad
from cvtool.losses.rbox import rbox
from cvtool.losses.text_score import LOSSES, balanced_ce, score_dice, text_score
from cvtool.ops import quads
from cvtool.ops.text_geometry import decode_rbox

pytestmark = pytest.mark.system("east")
SIDE = st.floats(2, 80)


@given(st.lists(st.tuples(st.tuples(SIDE, SIDE, SIDE, SIDE), st.tuples(SIDE, SIDE, SIDE, SIDE)), min_size=1, max_size=5), st.floats(-0.7, 0.7))
def test_the_loss_of_a_box_is_minus_the_logarithm_of_its_iou(pairs, angle):
    """That of the polygons, for boxes at the same angle told from the same place; one square pixel is added on both sides of the fraction."""
    prediction, target = (torch.tensor([(*pair[k], angle) for pair in pairs], dtype=torch.float64) for k in (0, 1))
    places = torch.zeros(len(pairs), 2, dtype=torch.float64)
    one, other = (decode_rbox(places, values).numpy() for values in (prediction, target))
    shared = quads.overlap(one, other)
    union = quads.area(one) + quads.area(other) - shared
    found, turned = rbox(prediction, target)
    np.testing.assert_allclose(found, np.log((union + 1) / (shared + 1)), rtol=1e-6)
    np.testing.assert_allclose(turned, 0, atol=1e-12)


def test_the_angle_has_a_term_of_its_own():
    target = torch.tensor([[5.0, 30, 5, 30, 0.1]])
    box, turned = rbox(target + torch.tensor([0, 0, 0, 0, 0.4]), target, angle_weight=10.0)
    assert box.item() == 0
    assert turned.item() == pytest.approx(10 * (1 - math.cos(0.4)), rel=1e-5)


@pytest.mark.parametrize("side", range(4))
def test_each_of_the_four_sides_counts(side):
    target = torch.tensor([[5.0, 30, 6, 20, 0.2]])
    off = target.clone()
    off[0, side] += 3
    off.requires_grad_()
    loss = rbox(off, target)[0].sum()
    loss.backward()
    assert loss > 0
    assert off.grad[0, side] > 0
    assert rbox(target, target)[0].item() == 0


@given(st.integers(0, 10_000))
def test_the_loss_of_a_quad_is_smooth_l1_over_its_shortest_side_from_the_best_corner(seed):
    rng = np.random.default_rng(seed)
    prediction, target = rng.normal(0, 20, (3, 8)), rng.normal(0, 20, (3, 8))
    wanted = []
    for p, t in zip(prediction, target, strict=True):
        corners = t.reshape(4, 2)
        shortest = max(1, min(np.hypot(*(corners[i] - corners[(i + 1) % 4])) for i in range(4)))
        each = []
        for start in range(4):
            apart = np.abs(p - np.concatenate([corners[(start + i) % 4] for i in range(4)]))
            each.append(sum(0.5 * d * d if d < 1 else d - 0.5 for d in apart) / (8 * shortest))
        wanted.append(min(each))
    found = quad(torch.tensor(prediction), torch.tensor(target))
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    turned = torch.tensor(target.reshape(3, 4, 2)).roll(1, 1).flatten(1)
    np.testing.assert_allclose(quad(turned, torch.tensor(target)), 0, atol=1e-12)


LOGITS = st.lists(st.tuples(st.floats(-6, 6), st.booleans()), min_size=2, max_size=60)


@given(LOGITS)
def test_balanced_cross_entropy_is_the_papers_over_a_constant(cells):
    """-beta y ln p - (1 - beta)(1 - y) ln(1 - p), beta = 1 - |Y+| / |Y|."""
    logits, target = torch.tensor([c[0] for c in cells], dtype=torch.float64), torch.tensor([float(c[1]) for c in cells], dtype=torch.float64)
    n, beta, total = len(cells), 1 - float(target.mean()), 0.0
    for x, y in zip(logits.tolist(), target.tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        total += -beta * y * math.log(p) - (1 - beta) * (1 - y) * math.log(1 - p)
    found = float(balanced_ce(logits, target))
    if 0 < beta < 1:
        assert found == pytest.approx(total / (2 * beta * (1 - beta) * n))
    else:
        assert found == pytest.approx(float(torch.nn.functional.binary_cross_entropy_with_logits(logits, target)))


def test_the_hardest_others_are_three_for_each_cell_of_text():
    """Of 400 cells 40 are text, and 120 of the others count: those taken most for text."""
    rng = np.random.default_rng(0)
    logits, target = torch.tensor(rng.normal(size=400)), torch.tensor(np.arange(400) < 40).double()
    surprise = sorted((math.log(1 + math.exp(x)) for x in logits[40:].tolist()), reverse=True)[:120]
    own = sum(math.log(1 + math.exp(-x)) for x in logits[:40].tolist())
    assert float(balanced_ce(logits, target, negatives=3)) == pytest.approx((own + sum(surprise)) / 160)
    nothing = torch.zeros(400, dtype=torch.float64)
    assert float(balanced_ce(logits, nothing, negatives=3)) == pytest.approx(np.mean(sorted(np.log1p(np.exp(logits.numpy())))[-100:]))


@given(LOGITS)
def test_dice_is_one_less_twice_what_is_shared_over_the_sum(cells):
    logits, target = torch.tensor([c[0] for c in cells], dtype=torch.float64), torch.tensor([float(c[1]) for c in cells], dtype=torch.float64)
    p = [1 / (1 + math.exp(-x)) for x in logits.tolist()]
    if target.any():
        wanted = 1 - 2 * sum(a * b for a, b in zip(p, target.tolist(), strict=True)) / (sum(p) + float(target.sum()))
    else:
        wanted = sum(p) / len(p)
    assert float(score_dice(logits, target)) == pytest.approx(wanted)
    assert float(score_dice(60 * (target - 0.5), target)) == pytest.approx(0, abs=1e-9)  # equal maps: the factor 2


@pytest.mark.parametrize("form", LOSSES)
@pytest.mark.parametrize("text", [True, False])
def test_what_does_not_count_has_no_part_and_no_gradient(form, text):
    torch.manual_seed(0)
    logits = torch.randn(2, 12, 12, requires_grad=True)
    target, counted = torch.zeros(2, 12, 12, dtype=torch.bool), torch.ones(2, 12, 12, dtype=torch.bool)
    target[:, 4:6, 2:9] = text
    counted[:, 8:] = False
    loss = text_score(logits, target, counted, form)
    loss.backward()
    assert loss.isfinite()
    assert (logits.grad[:, 8:] == 0).all()
    assert (logits.grad[~target & counted] >= 0).all()
    assert (logits.grad[target] < 0).all()
    empty = text_score(logits, target, counted & False, form)
    assert empty.item() == 0
