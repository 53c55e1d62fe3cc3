"""Boxes: formats, areas, IoU in both conventions, and the deltas of anchors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_area, box_convert, box_iou, clip_boxes_to_image

from cvtool.ops import boxes as ops

# Halves of whole numbers below a million: every conversion is exact in float64, in either direction.
coordinate = st.integers(-(10**6), 10**6).map(lambda v: v / 2)
lists = st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=6)


def tensor(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype).reshape(-1, 4)


def some_boxes(count, seed=0, size=100.0):
    draw = torch.Generator().manual_seed(seed)
    corner, side = torch.rand(count, 2, generator=draw) * size, torch.rand(count, 2, generator=draw) * size / 2 + 1
    return torch.cat((corner, corner + side), dim=1)


def slow_iou(a, b, extra=0):
    """By the definition, one pair at a time."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + extra)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + extra)
    both = width * height
    union = (a[2] - a[0] + extra) * (a[3] - a[1] + extra) + (b[2] - b[0] + extra) * (b[3] - b[1] + extra) - both
    return both / union if union else 0.0


FORMATS = ["xyxy", "xywh", "cxcywh"]


@pytest.mark.system("iou")
@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
@given(values=lists)
def test_formats_convert_without_loss_and_as_torchvision_has_it(source, target, values):
    if source == target:
        return
    boxes = tensor(values)
    there = getattr(ops, f"{source}_to_{target}")(boxes)
    assert torch.equal(there, box_convert(boxes, source, target))
    assert torch.equal(getattr(ops, f"{target}_to_{source}")(there), boxes)


@pytest.mark.system("iou")
def test_iou_in_the_two_conventions():
    a, b = torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([[5.0, 5, 14, 14]])
    assert ops.iou(a, b, inclusive=True).item() == pytest.approx(25 / 175) == pytest.approx(0.142857, abs=1e-6)
    assert ops.iou(a, b).item() == pytest.approx(16 / (81 + 81 - 16))
    assert ops.iou(a.long(), b.long(), inclusive=True).item() == pytest.approx(25 / 175)
    assert ops.area(a, inclusive=True).item() == 100
    assert ops.area(a).item() == 81


@pytest.mark.system("iou")
def test_iou_equals_torchvision_and_the_definition():
    a, b = some_boxes(40), some_boxes(25, seed=1)
    assert torch.equal(ops.iou(a, b), box_iou(a, b))
    assert torch.equal(ops.area(a), box_area(a))
    for extra in (0, 1):
        found = ops.iou(a.double(), b.double(), inclusive=bool(extra))
        for i, j in ((0, 0), (3, 7), (39, 24), (12, 5)):
            assert found[i, j].item() == pytest.approx(slow_iou(a[i].tolist(), b[j].tolist(), extra))


@pytest.mark.system("iou")
@given(values=lists)
def test_iou_is_a_share_symmetric_and_one_with_itself(values):
    boxes = tensor([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in values])
    found = ops.iou(boxes, boxes)
    assert ((found >= 0) & (found <= 1)).all()
    assert torch.equal(found, found.T)
    assert torch.equal(found.diagonal(), (ops.area(boxes) > 0).double())


def test_empty_boxes_and_empty_lists():
    nothing, point = torch.zeros(0, 4), torch.tensor([[3.0, 3, 3, 3]])
    assert ops.iou(nothing, point).shape == (0, 1)
    assert ops.iou(point, nothing).shape == (1, 0)
    assert ops.iou(point, point).item() == 0  # no area, no share of it, no division by zero


def test_clip_equals_torchvision():
    boxes = some_boxes(30) * 2 - 40
    assert torch.equal(ops.clip(boxes, (50, 70)), clip_boxes_to_image(boxes, (50, 70)))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_deltas_equal_torchvisions_coder_and_lead_back(weights):
    anchors, truth, coder = some_boxes(50), some_boxes(50, seed=2), BoxCoder(weights)
    deltas = ops.encode(truth, anchors, weights)
    torch.testing.assert_close(deltas, coder.encode_single(truth, anchors))
    torch.testing.assert_close(ops.decode(deltas, anchors, weights), truth, rtol=1e-5, atol=1e-4)
    wild = torch.randn(50, 4, generator=torch.Generator().manual_seed(3)) * 20  # beyond the cut-off
    torch.testing.assert_close(ops.decode(wild, anchors, weights), coder.decode_single(wild, anchors))
    assert torch.isfinite(ops.decode(wild * 1000, anchors, weights)).all()
