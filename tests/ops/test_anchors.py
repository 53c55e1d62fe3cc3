"""Anchors against torchvision's and the paper's own table."""

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from cvtool.ops.anchors import cell_anchors, grid_anchors


def test_equal_torchvision_in_value_and_order():
    sizes, ratios = (32, 50, 128), (0.5, 1.0, 2.0)
    theirs = AnchorGenerator((sizes,), (ratios,))(ImageList(torch.zeros(1, 3, 160, 240), [(160, 240)]), [torch.zeros(1, 8, 10, 15)])[0]
    assert torch.equal(grid_anchors(cell_anchors(sizes, ratios), (10, 15), (16, 16)), theirs)


def test_nine_anchors_of_three_areas_and_shapes():
    cell = cell_anchors((8, 16, 32), (0.5, 1.0, 2.0), base=16)
    assert torch.equal(cell, cell_anchors((128, 256, 512), (0.5, 1.0, 2.0)))
    w, h = (cell[:, 2:] - cell[:, :2]).unbind(1)
    assert len(cell) == 9
    torch.testing.assert_close(h / w, torch.tensor([0.5] * 3 + [1.0] * 3 + [2.0] * 3), rtol=0.02, atol=0)
    torch.testing.assert_close((w * h).sqrt(), torch.tensor([128.0, 256, 512]).repeat(3), rtol=0.01, atol=0)
