"""FCN: torchvision's numbers through our cut; any size in, a class per pixel out; what its losses look at."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models import segmentation

from cvtool.batch import Place
from cvtool.models.segment import fcn
from cvtool.models.segment._semantic import decide
from cvtool.results import SemanticMap


def build(variant, classes=5, **changes):
    torch.manual_seed(0)
    return fcn.build(classes=classes, **fcn.VARIANTS[variant] | changes)


def test_the_published_facts_are_torchvisions_own(published_facts):
    published_facts(fcn, enums=(segmentation.FCN_ResNet50_Weights, segmentation.FCN_ResNet101_Weights))


def test_maps_equal_torchvisions(against_torchvision):
    theirs = segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=5, aux_loss=True)
    against_torchvision(build("resnet50"), theirs)


def test_without_the_auxiliary_classifier():
    with torch.device("meta"):
        theirs = segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=5, aux_loss=False)
        ours = build("resnet50", aux=False)
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("size", [(33, 47), (64, 96), (101, 77)])
def test_any_size_in_the_same_size_out(size):
    model = build("tiny").eval()
    picture = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    with torch.no_grad():
        (result,) = model.predict(model.prepare([picture]))
    assert result.labels.shape == result.scores.shape == size
    assert result.labels.max() < 5
    assert ((result.scores > 0) & (result.scores <= 1)).all()


def batch_of(model, pictures, labels):
    return model.prepare(pictures, [SemanticMap(labels)] * len(pictures))


def test_the_loss_is_the_cross_entropy_of_labelled_pixels_and_half_the_auxiliary_one(pictures):
    model = build("tiny").eval()
    labels = torch.randint(0, 5, (60, 84), generator=torch.Generator().manual_seed(0))
    labels[:20] = 255
    batch = batch_of(model, pictures, labels)
    with torch.no_grad():
        raw, losses = model(batch), model.losses(batch)
    truth = torch.stack([t.labels for t in batch.targets])
    for name, loss, weight in (("out", losses["pixels"], 1.0), ("aux", losses["aux"], 0.5)):
        logits = F.interpolate(raw[name], size=batch.images.shape[-2:], mode="bilinear", align_corners=False)
        torch.testing.assert_close(loss, weight * F.cross_entropy(logits, truth, ignore_index=255))


def test_a_picture_without_a_label_gives_zero_and_not_nan(pictures):
    model = build("tiny")
    losses = model.losses(batch_of(model, pictures, torch.full((60, 84), 255)))
    assert [float(v) for v in losses.values()] == [0.0, 0.0]
    sum(losses.values()).backward()


@pytest.mark.parametrize("classes", [1, 7, 8, 9, 40])
def test_classes_may_come_in_groups(classes):
    """A few at a time, the decision and its probability are those of all at once."""
    logits = torch.randn(classes, 12, 20) * 4
    place = Place(height=31, width=47, inner_height=11, inner_width=18)
    some, once = decide(logits, place), decide(logits, place, group=1000)
    assert torch.equal(some.labels, once.labels)
    torch.testing.assert_close(some.scores, once.scores)
    torch.testing.assert_close(once.scores, place.map_back(logits).softmax(0).max(0).values)
