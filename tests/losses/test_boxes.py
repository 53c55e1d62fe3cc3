"""IoU and generalised IoU losses against torchvision, and where they have a gradient."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou, generalized_box_iou, generalized_box_iou_loss

from cvtool import losses
from cvtool.errors import UsageError
from cvtool.losses.giou import giou
from cvtool.losses.iou import iou
from cvtool.models.detect._box_loss import BoxLoss
from cvtool.ops.boxes import decode, encode, paired_giou, paired_iou

BOX = st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(0.5, 40), st.floats(0.5, 40)).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def tensors(pairs):
    return (torch.tensor(v, dtype=torch.float64) for v in zip(*pairs, strict=True))


@pytest.mark.system("iou-loss")
@given(st.lists(st.tuples(BOX, BOX), min_size=1, max_size=8))
def test_both_equal_torchvisions(pairs):
    a, b = tensors(pairs)
    torch.testing.assert_close(paired_iou(a, b), box_iou(a, b).diagonal())
    found = paired_giou(a, b)
    torch.testing.assert_close(found, generalized_box_iou(a, b).diagonal())
    assert ((found >= -1) & (found <= 1)).all()
    torch.testing.assert_close(iou(a, b), 1 - box_iou(a, b).diagonal().mean())
    torch.testing.assert_close(giou(a, b, reduction="sum"), generalized_box_iou_loss(a, b, reduction="sum"), rtol=1e-5, atol=1e-5)


@pytest.mark.system("iou-loss")
def test_a_pair_by_hand():
    a, b = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[2.0, 1, 6, 5]])
    both, union, around = 2 * 3, 16 + 16 - 6, 6 * 5
    assert iou(a, b).item() == pytest.approx(1 - both / union)
    assert iou(a, b, form="log").item() == pytest.approx(-math.log(both / union))
    assert giou(a, b).item() == pytest.approx(1 - (both / union - (around - union) / around))
    assert iou(a, a).item() == iou(a, a, form="log").item() == giou(a, a).item() == 0


@pytest.mark.system("iou-loss")
def test_both_conventions_of_corners():
    a, b = torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([[5.0, 5, 14, 14]])
    assert 1 - iou(a, b, inclusive=True).item() == pytest.approx(25 / 175)
    assert 1 - iou(a, b).item() == pytest.approx(16 / 146)
    assert 1 - giou(a, b, inclusive=True).item() == pytest.approx(25 / 175 - (225 - 175) / 225)


@pytest.mark.system("iou-loss")
def test_only_the_generalised_one_pulls_boxes_together_that_do_not_touch():
    target = torch.tensor([[20.0, 20, 30, 30]])
    for loss, moves in ((iou, False), (lambda a, b: iou(a, b, form="log"), False), (giou, True)):
        box = torch.tensor([[0.0, 0, 8, 8]], requires_grad=True)
        loss(box, target).backward()
        assert bool(box.grad.abs().sum() > 0) == moves
    box = torch.tensor([[0.0, 0, 8, 8]], requires_grad=True)
    for _ in range(400):
        (gradient,) = torch.autograd.grad(giou(box, target), box)
        with torch.no_grad():
            box -= 20 * gradient
    assert paired_iou(box, target).item() > 0.5
    near = torch.tensor([[21.0, 21, 33, 33]], requires_grad=True)
    iou(near, target).backward()
    assert near.grad.abs().sum() > 0


def test_far_boxes_come_near_minus_one_and_none_cost_nothing():
    assert paired_giou(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[1000.0, 1000, 1001, 1001]])).item() == pytest.approx(-1, abs=1e-5)
    none = torch.zeros(0, 4, requires_grad=True)
    assert iou(none, none.detach()).item() == giou(none, none.detach()).item() == 0


def test_a_detectors_box_loss_by_name():
    draw = torch.Generator().manual_seed(0)
    anchors = torch.rand(6, 4, generator=draw) * 20
    anchors[:, 2:] += anchors[:, :2] + 5
    boxes, deltas = anchors + 1, 0.1 * torch.randn(6, 4, generator=draw)
    codes = {"encode": lambda b: encode(b, anchors), "decode": lambda d: decode(d, anchors)}
    moved, aim = decode(deltas, anchors), encode(boxes, anchors)
    for text, expected in (
        ("smooth-l1", losses.compose("smooth-l1:beta=0.1,reduction=sum", "boxes")(deltas, aim)["smooth_l1"]),
        ("smooth-l1:beta=0.5", losses.compose("smooth-l1:beta=0.5,reduction=sum", "boxes")(deltas, aim)["smooth_l1"]),
        ("l1", (deltas - aim).abs().sum()),
        ("giou", (1 - paired_giou(moved, boxes)).sum()),
        ("2*iou:log", -2 * paired_iou(moved, boxes).log().sum()),
        ("l1+giou", (deltas - aim).abs().sum() + (1 - paired_giou(moved, boxes)).sum()),
    ):
        torch.testing.assert_close(BoxLoss(text, beta=0.1)(deltas, boxes, **codes), expected)
    assert BoxLoss("giou")(deltas[:0], boxes[:0], encode=lambda b: b, decode=lambda d: d).item() == 0
    for text in ("l2", "focal", "giou:log=1", "iou:form=square"):
        with pytest.raises(UsageError):
            BoxLoss(text)
