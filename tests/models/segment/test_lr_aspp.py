"""LR-ASPP: torchvision's numbers through our cut, and the gate."""

import torch
from torchvision.models import segmentation

from cvtool.models.segment import lr_aspp


def build(variant, classes=5):
    torch.manual_seed(0)
    return lr_aspp.build(classes=classes, **lr_aspp.VARIANTS[variant])


def test_the_published_facts_are_torchvisions_own(published_facts):
    published_facts(lr_aspp, enums=(segmentation.LRASPP_MobileNet_V3_Large_Weights,))


def test_maps_equal_torchvisions(against_torchvision):
    against_torchvision(build("mobilenet"), segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5))


def test_the_deep_branch_is_gated_by_the_whole_picture():
    """Each channel is scaled by one number from the picture's mean; with the gate shut only the shallow branch speaks."""
    model = build("tiny").eval()
    head = model.classifier
    low, high = torch.randn(1, 24, 8, 8), torch.randn(1, 48, 4, 4)
    with torch.no_grad():
        assert head.scale(high).shape == (1, 32, 1, 1)
        head.scale[1].weight.zero_()
        torch.testing.assert_close(head.scale(high), torch.full((1, 32, 1, 1), 0.5))
        open_half = model.logits([low, high]) - head.low_classifier(low)
        deep = torch.nn.functional.interpolate(head.cbr(high), size=(8, 8), mode="bilinear", align_corners=False)
        bias = head.high_classifier.bias[:, None, None]
        torch.testing.assert_close(open_half - bias, (head.high_classifier(deep) - bias) / 2, atol=1e-5, rtol=1e-4)
