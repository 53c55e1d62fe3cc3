"""SSDlite: SSD with separable convolutions; and torchvision's numbers through our cut."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import SSDLite320_MobileNet_V3_Large_Weights, ssdlite320_mobilenet_v3_large

from cvtool.models.detect import ssdlite


def build(variant, classes=3, **changes):
    torch.manual_seed(0)
    return ssdlite.build(classes=classes, **ssdlite.VARIANTS[variant] | changes)


def test_the_published_facts_are_torchvisions_own(published_facts):
    published_facts(ssdlite, classes=90, enums=(SSDLite320_MobileNet_V3_Large_Weights,))


def test_predictions_and_losses_equal_torchvisions(against_torchvision):
    ours = build("mobilenet", 4)
    theirs = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)
    wanted, losses = against_torchvision(ours, theirs, shift=1, conf=0.19)
    assert losses == pytest.approx({"classifier": wanted["classification"], "box": wanted["bbox_regression"]}, rel=1e-3)


@pytest.mark.parametrize("variant", ["mobilenet", "tiny"])
def test_every_3x3_of_the_heads_and_extra_maps_is_depthwise(variant):
    with torch.device("meta"):
        model = build(variant)
    parts = [model.head, *([model.backbone.extra] if variant == "mobilenet" else [])]
    for conv in (m for part in parts for m in part.modules() if isinstance(m, nn.Conv2d)):
        assert conv.kernel_size == (1, 1) or conv.groups == conv.in_channels


def test_a_batch_of_one_can_be_trained(batch_of):
    """Its last map is 1 x 1: one value a channel, of which torch's own normalisation takes no deviation."""
    from dataclasses import replace

    model = build("mobilenet").train()
    batch = batch_of(model)
    one = replace(batch, images=batch.images[:1], padding=batch.padding[:1], places=batch.places[:1], targets=batch.targets[:1])
    losses = model.losses(one)
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values())


def test_thresholds_act_on_one_call(thresholds_pass_through):
    thresholds_pass_through(build("tiny"), conf=0.2)
