"""l1, l2, rmsle and tv against plain loops and their gradients."""

import math

import pytest
import torch

from cvtool import losses
from cvtool.errors import UsageError
from cvtool.losses.l1 import l1
from cvtool.losses.l2 import l2
from cvtool.losses.rmsle import rmsle
from cvtool.losses.tv import tv, widened


@pytest.fixture
def pair():
    draw = torch.Generator().manual_seed(0)
    return tuple(torch.rand(2, 3, 4, 5, generator=draw, dtype=torch.float64) for _ in range(2))


def flat(*tensors):
    return zip(*(t.flatten().tolist() for t in tensors), strict=True)


@pytest.mark.system("l1")
def test_l1_is_a_mean_and_its_sum_the_printed_formula(pair):
    total = sum(abs(a - b) for a, b in flat(*pair))
    assert l1(*pair).item() == pytest.approx(total / 120)
    assert l1(*pair, reduction="sum").item() == pytest.approx(total)
    assert l1(*pair, reduction="none").shape == pair[0].shape


@pytest.mark.system("l2")
def test_l2_and_its_gradient(pair):
    x, y = pair[0].requires_grad_(), pair[1]
    loss = l2(x, y)
    assert loss.item() == pytest.approx(sum((a - b) ** 2 for a, b in flat(x, y)) / 120)
    loss.backward()
    torch.testing.assert_close(x.grad, 2 * (x.detach() - y) / 120)
    assert torch.autograd.gradcheck(lambda a: l2(a, y), x)


def test_a_wrong_reduction_is_told():
    with pytest.raises(UsageError, match="mean, sum, none"):
        l1(torch.zeros(1), torch.zeros(1), reduction="median")


def test_the_mean_of_nothing_is_nothing():
    nothing = torch.zeros(0, 4, requires_grad=True)
    assert l1(nothing, torch.zeros(0, 4)).item() == 0


@pytest.mark.system("rmsle")
def test_rmsle_is_the_root_of_a_mean_of_natural_logarithms(pair):
    x, y = pair[0] + 0.1, pair[1] + 0.1
    mean = sum((math.log(a) - math.log(b)) ** 2 for a, b in flat(x, y)) / 120
    assert rmsle(x, y).item() == pytest.approx(math.sqrt(mean))
    assert rmsle(x, y, root=False).item() == pytest.approx(mean)
    assert rmsle(torch.tensor([math.e]), torch.tensor([1.0])).item() == pytest.approx(1.0)  # with 1 added to both it would be 0.62
    by_name = losses.compose("rmsle+rmsle:root=false", "pictures")(x, y)
    assert [v.item() for v in by_name.values()] == pytest.approx([math.sqrt(mean), mean])
    assert rmsle(7 * x, 7 * y).item() == pytest.approx(math.sqrt(mean))  # ratios alone count


def test_rmsle_of_equal_and_of_black_pictures_has_a_gradient():
    x = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
    loss = rmsle(x, x.detach())
    loss.backward()
    assert loss.item() == 0
    assert x.grad.tolist() == [0, 0, 0]
    assert rmsle(torch.zeros(3), torch.ones(3)).isfinite()


@pytest.mark.system("tv")
def test_tv_against_a_loop_and_zero_where_nothing_varies(pair):
    x = pair[0]
    across, down = [], []
    for picture in x.tolist():
        for rows in picture:
            across += [abs(row[i + 1] - row[i]) for row in rows for i in range(4)]
            down += [abs(rows[i + 1][j] - rows[i][j]) for i in range(3) for j in range(5)]
    assert tv(x).item() == pytest.approx(sum(across) / len(across) + sum(down) / len(down))
    assert tv(torch.full((1, 3, 8, 8), 0.3)).item() == 0


@pytest.mark.system("tv")
def test_tv_of_a_hole_looks_no_further_than_a_pixel_around_it():
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(1, 3, 12, 12, generator=draw)
    hole = torch.zeros(1, 1, 12, 12, dtype=torch.bool)
    hole[..., 4:7, 5:9] = True
    near = widened(hole)
    assert near[0, 0].nonzero().amin(0).tolist() == [3, 4]
    assert near[0, 0].nonzero().amax(0).tolist() == [7, 9]
    assert int(near.sum()) == 5 * 6
    before = tv(x, mask=hole)
    elsewhere = torch.where(near, x, torch.rand(1, 3, 12, 12, generator=draw))
    assert not torch.equal(elsewhere, x)
    assert tv(elsewhere, mask=hole).item() == before.item()
    for at in ((4, 5), (3, 4), (7, 9)):  # inside, and on the seam's corners
        changed = x.clone()
        changed[0, :, at[0], at[1]] += 0.5
        assert tv(changed, mask=hole).item() != before.item()
    x.requires_grad_()
    tv(x, mask=hole).backward()
    assert ((x.grad != 0).any(dim=1, keepdim=True) <= near).all()
