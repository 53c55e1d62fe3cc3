"""SSD: default boxes on six maps, a softmax with a background, hard negatives; and torchvision's numbers through our cut."""

import pytest
import torch
from torchvision.models.detection import SSD300_VGG16_Weights, ssd300_vgg16

from cvtool.models.detect import ssd
from cvtool.results import Boxes


def build(variant, classes=3, **changes):
    torch.manual_seed(0)
    return ssd.build(classes=classes, **ssd.VARIANTS[variant] | changes)


def test_the_published_facts_are_torchvisions_own(published_facts):
    """One output more than the categories: the background."""
    published_facts(ssd, classes=90, enums=(SSD300_VGG16_Weights,))


def test_predictions_and_losses_equal_torchvisions(against_torchvision):
    """Stretched to 300 x 300 and given as bytes about VGG's mean, as the weights were trained."""
    ours = build("vgg16", 4)
    theirs = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=5)
    wanted, losses = against_torchvision(ours, theirs, shift=1, conf=0.3)
    assert losses == pytest.approx({"classifier": wanted["classification"], "box": wanted["bbox_regression"]}, rel=1e-4)


def test_8732_default_boxes(batch_of):
    """Of the paper's 300 x 300 network: 38, 19, 10, 5, 3 and 1 a side with 4, 6, 6, 6, 4 and 4 shapes (section 3.1)."""
    counts = [38 * 38 * 4, 19 * 19 * 6, 10 * 10 * 6, 5 * 5 * 6, 3 * 3 * 4, 4]
    model = build("vgg16").eval()
    with torch.no_grad():
        raw = model(batch_of(model))
    assert raw["deltas"].shape == (2, sum(counts), 4)
    assert sum(counts) == 8732
    assert raw["logits"].shape[-1] == 4  # three categories and the background


def test_three_negatives_for_each_positive_and_the_hardest_ones():
    model = build("tiny")
    picture = torch.randint(0, 255, (64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    batch = model.prepare([picture], [Boxes(torch.tensor([[8.0, 8, 40, 44]]), torch.tensor([1]))])
    with torch.no_grad():
        raw, losses = model(batch), model.losses(batch)
    matched = model.match(batch.targets[0].boxes, raw["anchors"][0])
    labels = torch.where(matched >= 0, 2, 0)  # category 1 is label 2, behind the background
    each = torch.nn.functional.cross_entropy(raw["logits"][0], labels, reduction="none")
    positive = matched >= 0
    count = int(positive.sum())
    hardest = each[~positive].sort(descending=True).values[: 3 * count]
    assert count > 0
    assert losses["classifier"].item() == pytest.approx(float(each[positive].sum() + hardest.sum()) / count, rel=1e-4)


def test_the_background_is_never_answered(batch_of):
    model = build("tiny").eval()
    with torch.no_grad():
        for result in model.predict(batch_of(model), conf=0.0):
            assert result.labels.min() >= 0
            assert result.labels.max() <= 2


def test_thresholds_act_on_one_call(thresholds_pass_through):
    thresholds_pass_through(build("tiny"), conf=0.2)
