"""FCOS: points instead of anchors, scored by class and centre-ness; and torchvision's numbers through our cut."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection import FCOS_ResNet50_FPN_Weights
from torchvision.models.detection import fcos as tv
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

from cvtool.models.detect import fcos


def build(variant, classes=3, **changes):
    torch.manual_seed(0)
    model = fcos.build(classes=classes, **fcos.VARIANTS[variant] | changes)
    nn.init.zeros_(model.head.classification_head.cls_logits.bias)  # without its prior an untrained model has something to say,
    nn.init.constant_(model.head.regression_head.bbox_reg.bias, 2.0)  # and of boxes with an area
    return model


def test_the_published_facts_are_torchvisions_own(published_facts):
    published_facts(fcos, classes=91, enums=(FCOS_ResNet50_FPN_Weights,))


def test_predictions_and_losses_equal_torchvisions(against_torchvision, smaller):
    ours = smaller(build("resnet50", 5), 128, 176)
    trunk = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    theirs = tv.FCOS(_resnet_fpn_extractor(trunk, 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256)), 5, 128, 176)
    wanted, losses = against_torchvision(ours, theirs, shift=0, conf=0.2)
    names = {"classifier": "classification", "box": "bbox_regression", "centreness": "bbox_ctrness"}
    assert losses == pytest.approx({ours: wanted[theirs] for ours, theirs in names.items()}, rel=1e-4)


def test_a_point_that_sees_the_sides_gives_the_box_back(batch_of):
    """The four outputs are the distances to the left, top, right and bottom side in strides, from the centre of the point's square."""
    model = build("tiny")
    batch = batch_of(model)
    with torch.no_grad():
        raw = model(batch)
    points, box = raw["points"][0], torch.tensor([10.0, 12, 60, 70])
    centres, strides = (points[:, :2] + points[:, 2:]) / 2, points[:, 2] - points[:, 0]
    assert sorted(set(strides.tolist())) == list(fcos.STRIDES)
    sides = torch.cat([centres - box[:2], box[2:] - centres], 1) / strides[:, None]
    torch.testing.assert_close(model.head.box_coder.decode(sides, points), box.expand(len(points), 4))


def test_the_score_is_the_mean_of_class_and_centreness(batch_of):
    """The geometric mean, so that a sure class seen from a box's edge is not a sure detection."""
    model = build("tiny").eval()
    with torch.no_grad():
        batch = batch_of(model)
        raw, found = model(batch), model.predict(batch, conf=0.0, iou=1.0, max_det=10**6)
    scores = (raw["logits"].sigmoid() * raw["centreness"].sigmoid()).sqrt()
    for i, result in enumerate(found):
        expected = scores[i].flatten().sort(descending=True).values[: len(result)]
        torch.testing.assert_close(result.scores, expected)


def test_thresholds_act_on_one_call(thresholds_pass_through):
    thresholds_pass_through(build("tiny"), conf=0.2)
