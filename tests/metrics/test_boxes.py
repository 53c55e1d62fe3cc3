"""IoU of boxes in NumPy: both conventions and all formats, against counting pixels and torchvision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvtool.errors import UsageError
from cvtool.metrics import iou
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.ops import box_convert, box_iou

corner = st.integers(0, 12)
box = st.tuples(corner, corner, corner, corner).map(lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])))


def pixels(a, b):
    """By counting: corners are the first and the last pixel."""
    sets = [{(x, y) for x in range(c[0], c[2] + 1) for y in range(c[1], c[3] + 1)} for c in (a, b)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.system("iou")
def test_the_worked_example_in_both_conventions():
    a, b = np.array([0, 0, 9, 9]), np.array([5, 5, 14, 14])
    assert iou.iou(a, b, inclusive=True) == pytest.approx(25 / 175, abs=1e-15)
    assert iou.iou(a, b, inclusive=True) == pytest.approx(0.142857, abs=5e-7)
    assert iou.iou(a, b) == pytest.approx(16 / 146, abs=1e-15)


@pytest.mark.system("iou")
@settings(max_examples=30)
@given(box, box)
def test_inclusive_counts_pixels_and_continuous_is_torchvisions(a, b):
    assert iou.iou(np.array(a), np.array(b), inclusive=True) == pytest.approx(pixels(a, b), abs=1e-12)
    theirs = box_iou(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64))[0, 0]
    assert iou.iou(np.array(a), np.array(b)) == pytest.approx(np.nan_to_num(float(theirs)), abs=1e-12)


@pytest.mark.system("iou")
@settings(max_examples=40)
@given(st.lists(box, min_size=1, max_size=5), st.sampled_from(iou.FORMATS), st.sampled_from(iou.FORMATS))
def test_formats_convert_without_loss(boxes, source, target):
    boxes = iou.convert(np.array(boxes, float), "xyxy", source)
    there = iou.convert(boxes, source, target)
    np.testing.assert_array_equal(there, box_convert(torch.tensor(boxes), source, target).numpy())
    np.testing.assert_array_equal(iou.convert(there, target, source), boxes)


def test_an_unknown_format_is_refused():
    with pytest.raises(UsageError, match="unknown box format"):
        iou.convert(np.zeros((1, 4)), "yolo", "xyxy")
