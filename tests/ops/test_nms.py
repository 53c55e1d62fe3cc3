"""Non-maximum suppression against a plain loop and torchvision."""

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from cvtool.ops.boxes import iou
from cvtool.ops.nms import nms, top

pytestmark = pytest.mark.system("nms")


def slow(boxes, scores, threshold=0.5, labels=None):
    """The best box left stays; all that overlap it by more than the threshold go; again."""
    left = sorted(range(len(boxes)), key=lambda i: -scores[i].item())  # stable: equal scores in the order given
    overlap, kept = iou(boxes, boxes), []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if (labels is not None and labels[i] != labels[best]) or overlap[best, i] <= threshold]
    return kept


# Few places and few scores: many overlaps and many ties.
boxes_and_scores = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 9), st.integers(1, 9), st.integers(0, 4), st.integers(0, 2)), max_size=25
)


@given(values=boxes_and_scores, threshold=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
def test_equals_a_plain_loop_and_torchvision_ties_included(values, threshold):
    table = torch.tensor(values, dtype=torch.float32).reshape(-1, 6)
    boxes = torch.stack((table[:, 0], table[:, 1], table[:, 0] + table[:, 2], table[:, 1] + table[:, 3]), dim=1)
    scores, labels = table[:, 4] / 4, table[:, 5].long()
    assert nms(boxes, scores, threshold).tolist() == slow(boxes, scores, threshold)
    assert torch.equal(nms(boxes, scores, threshold), torchvision.ops.nms(boxes, scores, threshold))
    found = nms(boxes, scores, threshold, labels=labels)
    assert torch.equal(found, torchvision.ops.batched_nms(boxes, scores, labels, threshold))
    expected = slow(boxes, scores, threshold, labels)
    assert sorted(found.tolist()) == sorted(expected)
    assert scores[found].tolist() == scores[expected].tolist()


def test_drops_what_overlaps_more_than_half_by_default():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 6], [20, 20, 30, 30]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7, 0.1])).tolist() == [0, 1, 3]  # exactly one half stays, three fifths go


def test_a_box_of_another_class_never_suppresses():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert nms(boxes, scores, labels=torch.tensor([0, 1, 0])).tolist() == [0, 1]
    assert nms(boxes, scores).tolist() == [0]


def test_half_precision_and_nothing_at_all():
    assert nms(torch.zeros(0, 4), torch.zeros(0)).tolist() == []
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10]], dtype=torch.float16)
    assert nms(boxes, torch.tensor([0.5, 0.9], dtype=torch.bfloat16)).tolist() == [1]


def test_top_keeps_the_order_of_equal_scores():
    assert top(torch.tensor([0.5, 0.9, 0.5, 0.1, 0.9]), 4).tolist() == [1, 4, 0, 2]
    assert top(torch.tensor([0.5]), 4).tolist() == [0]
