"""The pyramid: lateral 1x1, nearest upsampling, sum, 3x3; and which level an object of a size is read from."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops.poolers import LevelMapper

from cvtool.layers.fpn import Pyramid
from cvtool.layers.resnet import NarrowResNet
from cvtool.models.detect import faster_rcnn


@pytest.mark.system("fpn")
def test_the_top_down_path_by_hand():
    torch.manual_seed(0)
    pyramid = Pyramid(NarrowResNet((8, 12, 16, 20), blocks=(1, 1, 1, 1)), 6).eval()
    x = torch.randn(1, 3, 64, 96)
    stages = list(pyramid.body(x).values())
    lateral = [block[0] for block in pyramid.fpn.inner_blocks]
    smooth = [block[0] for block in pyramid.fpn.layer_blocks]
    assert all(conv.kernel_size == (1, 1) for conv in lateral)
    assert all(conv.kernel_size == (3, 3) for conv in smooth)

    merged = lateral[3](stages[3])
    expected = [smooth[3](merged)]
    for i in (2, 1, 0):
        merged = lateral[i](stages[i]) + F.interpolate(merged, scale_factor=2, mode="nearest")
        expected.insert(0, smooth[i](merged))
    found = list(pyramid(x).values())
    assert [tuple(f.shape[-2:]) for f in found] == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]  # strides 4 to 64
    for ours, by_hand in zip(found, expected, strict=False):
        torch.testing.assert_close(ours, by_hand)
    torch.testing.assert_close(found[4], F.max_pool2d(expected[3], 1, 2))


@pytest.mark.system("fpn")
@pytest.mark.parametrize(("side", "level"), [(224, 4), (112, 3), (300, 4), (447, 4), (448, 5), (50, 2), (2000, 5)])
def test_an_object_is_read_from_the_level_of_its_size(side, level):
    """k = floor(k0 + log2(sqrt(wh) / 224)), k0 = 4, within the pyramid (Lin 2016, eq. 1). Printed with a ceiling, 300 px would go to 5."""
    pool = faster_rcnn.build(classes=1, **faster_rcnn.VARIANTS["tiny"]).roi_heads.box_roi_pool
    mapper = LevelMapper(2, 5, canonical_scale=224, canonical_level=pool.canonical_level)
    box = torch.tensor([[10.0, 10.0, 10.0 + side, 10.0 + side]])
    assert int(mapper([box])) + 2 == level


@pytest.mark.system("fpn")
def test_published_detectors_use_that_rule():
    with torch.device("meta"):
        model = faster_rcnn.build(classes=90, **faster_rcnn.VARIANTS["resnet50"])
    pool = model.roi_heads.box_roi_pool
    assert (pool.canonical_scale, pool.canonical_level, pool.featmap_names) == (224, 4, ["0", "1", "2", "3"])
