"""Anchors: torchvision's, in float32 whatever the features are."""

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from cvtool.layers.anchors import Anchors, DefaultBoxes

MAPS = [torch.randn(2, 5, 30, 41), torch.randn(2, 5, 15, 21)]
IMAGES = ImageList(torch.zeros(2, 3, 240, 328), [(240, 328), (200, 300)])
MAKERS = [
    (lambda kind: kind(((13.7, 30.3), (60.1, 90.9)), ((0.6, 1.0),) * 2), Anchors, AnchorGenerator),
    (lambda kind: kind([[2], [2, 3]], scales=[0.1, 0.3, 0.6]), DefaultBoxes, DefaultBoxGenerator),
]


@pytest.mark.parametrize(("make", "ours", "theirs"), MAKERS)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_they_equal_torchvisions_in_float32(make, ours, theirs, precision):
    expected = make(theirs)(IMAGES, MAPS)
    generator = make(ours)
    found = generator(IMAGES, [m.to(precision) for m in MAPS])
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)
