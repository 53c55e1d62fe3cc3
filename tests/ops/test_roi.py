"""RoIPool and RoIAlign against torchvision's operators, and the facts that tell them apart."""

import pytest
import torch
import torchvision

from cvtool.ops.roi import roi_align, roi_pool, roi_pool_bins

FEATURES = torch.randn(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))


def boxes(seed, count=12, *, whole=False, low=-40.0, high=420.0):
    """Two images' boxes, some of them beyond the picture, one empty."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(2):
        corners = torch.rand(count, 2, 2, generator=draw) * (high - low) + low
        b = torch.cat((corners.amin(dim=1), corners.amax(dim=1)), dim=1)
        b[0, 2:] = b[0, :2]
        found.append(b.round() if whole else b)
    return found


@pytest.mark.system("roi-pool")
@pytest.mark.parametrize("size", [7, (3, 5), 1])
@pytest.mark.parametrize("whole", [True, False])
def test_roi_pool_equals_torchvision(size, whole):
    for scale in (1 / 16, 1 / 8, 0.3):
        some = boxes(1, whole=whole)
        assert torch.equal(roi_pool(FEATURES, some, size, scale), torchvision.ops.roi_pool(FEATURES, some, size, scale))


@pytest.mark.system("roi-pool")
def test_fourteen_features_become_seven_by_two_by_two_maxima():
    features = torch.randn(1, 4, 14, 14, generator=torch.Generator().manual_seed(1))
    box = [torch.tensor([[0.0, 0, 13, 13]])]  # corners are features, the last included
    assert torch.equal(roi_pool(features, box, 7, 1.0), torch.nn.functional.max_pool2d(features, 2))


@pytest.mark.system("roi-pool")
def test_both_roundings_can_be_seen():
    snapped, rows, cols = roi_pool_bins((9.0, 20.0, 215.0, 150.0), 1 / 16, (3, 4))
    assert snapped == [1, 1, 14, 10]  # 0.56, 1.25, 13.44, 9.38 rounded; the end excluded
    assert rows == [[1, 4], [4, 7], [7, 10]]  # nine features in three
    assert cols == [[1, 5], [4, 8], [7, 11], [10, 14]]  # thirteen in four: bins are widened to whole features and overlap
    pooled = roi_pool(FEATURES, [torch.tensor([[9.0, 20, 215, 150]]), torch.zeros(0, 4)], (3, 4), 1 / 16)
    by_hand = torch.stack([torch.stack([FEATURES[0, :, a:b, c:d].amax(dim=(1, 2)) for c, d in cols], dim=1) for a, b in rows], dim=1)
    assert torch.equal(pooled[0], by_hand)


@pytest.mark.system("roi-pool")
def test_roi_pool_has_torchvisions_gradient():
    ours, theirs = FEATURES.clone().requires_grad_(), FEATURES.clone().requires_grad_()
    some = boxes(2)
    (roi_pool(ours, some, 4, 1 / 16) ** 2).sum().backward()
    (torchvision.ops.roi_pool(theirs, some, 4, 1 / 16) ** 2).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.system("roi-align")
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [-1, 1, 2, 3])
def test_roi_align_average_equals_torchvision(aligned, ratio):
    for size, scale in ((7, 1 / 16), ((3, 5), 0.3)):
        some = boxes(3)
        found = roi_align(FEATURES, some, size, scale, ratio, aligned)
        torch.testing.assert_close(found, torchvision.ops.roi_align(FEATURES, some, size, scale, ratio, aligned), rtol=1e-5, atol=1e-5)


@pytest.mark.system("roi-align")
def test_roi_align_has_torchvisions_gradient():
    ours, theirs = FEATURES.double().requires_grad_(), FEATURES.double().requires_grad_()
    some = [b.double() for b in boxes(4)]
    (roi_align(ours, some, 4, 1 / 16, 2, True) ** 2).sum().backward()
    (torchvision.ops.roi_align(theirs, some, 4, 1 / 16, 2, True) ** 2).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.system("roi-align")
def test_a_linear_ramp_is_sampled_exactly():
    """Nothing is snapped: with aligned=True the value at a bin is the ramp at the bin's centre, wherever the box lies."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij")
    ramp = (2 * x - 3 * y + 1)[None, None].double()
    x0, y0, x1, y1 = 30.7, 50.2, 211.9, 190.4
    found = roi_align(ramp, [torch.tensor([[x0, y0, x1, y1]], dtype=torch.float64)], (4, 5), 1 / 16, 2, aligned=True)[0, 0]
    cx = (x0 + (torch.arange(5, dtype=torch.float64) + 0.5) * (x1 - x0) / 5) / 16 - 0.5  # features' centres stand at halves
    cy = (y0 + (torch.arange(4, dtype=torch.float64) + 0.5) * (y1 - y0) / 4) / 16 - 0.5
    torch.testing.assert_close(found, 2 * cx[None] - 3 * cy[:, None] + 1, rtol=1e-12, atol=1e-9)
    pooled = roi_pool(ramp, [torch.tensor([[x0, y0, x1, y1]], dtype=torch.float64)], (4, 5), 1 / 16)[0, 0]
    assert (pooled - found).abs().max() > 1  # the two roundings cost whole features


@pytest.mark.system("roi-align")
def test_the_maximum_is_that_of_the_same_samples():
    some, size, ratio = boxes(5, low=20, high=300), (3, 4), 2
    fine = roi_align(FEATURES, some, (6, 8), 1 / 16, 1, True)  # one sample in each quarter of a bin: the very same places
    torch.testing.assert_close(roi_align(FEATURES, some, size, 1 / 16, ratio, True, mode="max"), torch.nn.functional.max_pool2d(fine, 2))
    with pytest.raises(ValueError, match="avg or max"):
        roi_align(FEATURES, some, size, 1 / 16, mode="sum")


@pytest.mark.parametrize("operator", [roi_pool, roi_align])
def test_many_boxes_are_done_in_parts_and_none_at_all_is_none(operator, monkeypatch):
    some = boxes(6)
    whole = operator(FEATURES, some, 3, 1 / 16)
    monkeypatch.setattr("cvtool.ops.roi.AT_ONCE", 1)
    assert torch.equal(operator(FEATURES, some, 3, 1 / 16), whole)
    assert operator(FEATURES, [torch.zeros(0, 4)] * 2, 3, 1 / 16).shape == (0, 3, 3, 3)
    with pytest.raises(ValueError, match="2 images"):
        operator(FEATURES, some[:1], 3, 1 / 16)
