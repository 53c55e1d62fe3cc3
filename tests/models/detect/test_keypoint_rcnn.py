"""Keypoint R-CNN: one-hot 56 x 56 maps, a softmax over their pixels, visible keypoints only."""

import math

import numpy as np
import pytest
import torch

from cvtool.models.detect import keypoint_rcnn
from cvtool.results import Instances


@pytest.mark.system("keypoint-rcnn")
def test_the_published_parameter_count():
    with torch.device("meta"):
        model = keypoint_rcnn.build(classes=1, **keypoint_rcnn.VARIANTS["resnet50"])
    assert sum(p.numel() for p in model.parameters()) == 59_137_258


def head_loss(model, logits, keypoints, boxes):
    """The keypoint loss of given logits, through the model's own path."""
    model.keypoint_logits = lambda features, b, sizes: logits
    labels = [torch.ones(len(boxes), dtype=torch.long)]
    matched = [torch.arange(len(boxes))]
    return model.head_losses({}, [(64, 64)], [boxes], matched, labels, [{"keypoints": keypoints}])["keypoint"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return keypoint_rcnn.build(classes=1, keypoints=3, **keypoint_rcnn.VARIANTS["tiny"])


@pytest.mark.system("keypoint-rcnn")
def test_the_loss_is_a_softmax_over_all_pixels_of_the_map(model):
    """Uniform logits cost log(56 * 56) nats a keypoint; a lit true pixel costs nothing."""
    boxes = torch.tensor([[0.0, 0, 56, 56]])
    keypoints = torch.tensor([[[10.0, 20, 2], [30, 40, 1], [5, 5, 2]]])
    logits = torch.zeros(1, 3, 56, 56)
    assert head_loss(model, logits, keypoints, boxes).item() == pytest.approx(math.log(56 * 56), rel=1e-5)
    for k, (x, y, _) in enumerate(keypoints[0].long().tolist()):
        logits[0, k, y, x] = 50.0
    assert head_loss(model, logits, keypoints, boxes).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.system("keypoint-rcnn")
def test_unlabelled_keypoints_do_not_count(model):
    boxes = torch.tensor([[0.0, 0, 56, 56]])
    keypoints = torch.tensor([[[10.0, 20, 2], [0, 0, 0], [70, 5, 2]]])  # the second is not labelled, the third outside of the RoI
    logits = torch.zeros(1, 3, 56, 56, requires_grad=True)
    head_loss(model, logits, keypoints, boxes).backward()
    assert (logits.grad.abs().sum((0, 2, 3)) > 0).tolist() == [True, False, False]


@pytest.mark.system("keypoint-rcnn")
def test_it_finds_the_corners_it_was_shown():
    torch.manual_seed(0)
    model = keypoint_rcnn.build(classes=1, keypoints=3, **keypoint_rcnn.VARIANTS["tiny"])
    picture = np.full((64, 64, 3), 40, np.uint8)
    picture[12:50, 14:44] = 120
    points = [(18, 16), (40, 18), (28, 46)]
    for (x, y), colour in zip(points, ((255, 0, 0), (0, 255, 0), (0, 0, 255)), strict=True):
        picture[y - 3 : y + 4, x - 3 : x + 4] = colour
    truth = Instances(torch.tensor([[14.0, 12, 44, 50]]), torch.tensor([0]), keypoints=torch.tensor([[[x, y, 2.0] for x, y in points]]))
    batch = model.prepare([picture] * 2, [truth] * 2)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    for _ in range(150):
        optimizer.zero_grad()
        sum(model.losses(batch).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    with torch.no_grad():
        for _ in range(30):
            model.losses(batch)
    model.eval()
    with torch.no_grad():
        found = model.predict(model.prepare([picture]), max_det=1)[0]
    assert len(found) == 1
    assert found.keypoints.shape == (1, 3, 3)
    error = (found.keypoints[0, :, :2] - torch.tensor(points, dtype=torch.float32)).norm(dim=1)
    assert error.max() < 3, error
