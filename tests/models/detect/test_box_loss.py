"""`box_loss` of the detectors: every name trains every one of them, and each compares what it says it does."""

import pytest
import torch

from cvtool import registry, weights
from cvtool.categories import numbered
from cvtool.ops.boxes import paired_giou, paired_iou
from cvtool.results import Boxes

PICTURES = [torch.randint(0, 255, (64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()] * 2
TRUTH = [Boxes(torch.tensor([[8.0, 8, 40, 44], [30, 20, 60, 60]]), torch.tensor([2, 0])), Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))]


def build(name, **options):
    torch.manual_seed(0)
    return weights.build(f"{name}.tiny", categories=numbered(3), **options)


def losses(model):
    torch.manual_seed(0)  # the two-stage detector draws its samples
    return model.losses(model.prepare(PICTURES, TRUTH))


@pytest.mark.system("iou-loss")
@pytest.mark.system("smooth-l1")
@pytest.mark.parametrize("kind", ["smooth-l1", "l1", "iou", "iou:log", "giou", "l1+2*giou"])
@pytest.mark.parametrize("name", ["faster-rcnn", "retinanet", "fcos"])
def test_each_name_trains_each_detector(name, kind):
    model = build(name, box_loss=kind)
    found = losses(model)
    plain = losses(build(name))
    assert {key for key in found if not torch.equal(found[key], plain[key])} <= {"box"}
    assert found["box"] > 0
    found["box"].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(("name", "published"), [("faster-rcnn", "smooth-l1:beta=0.1111111111111111"), ("retinanet", "smooth-l1"), ("fcos", "giou")])
def test_the_published_loss_is_the_default(name, published):
    torch.testing.assert_close(losses(build(name, box_loss=published))["box"], losses(build(name))["box"], rtol=1e-5, atol=1e-7)


def test_fcos_sums_over_its_foreground_points():
    """The same matches, by hand: mean over the points of a box of 1 - GIoU and of -ln IoU."""
    model = build("fcos", box_loss="iou:log")
    batch = model.prepare(PICTURES[:1], TRUTH[:1])
    raw = model(batch)
    seen = []
    model.box_losses = lambda *given: seen.append(given) or torch.zeros(())
    model.losses(batch)
    _, truth, (matched,) = seen[0]
    on = matched >= 0
    assert on.sum() > 3
    boxes = model.head.box_coder.decode(raw["sides"][0][on], raw["points"][0][on])
    aims = truth[0]["boxes"][matched[on]]
    torch.testing.assert_close(losses_of(build("fcos", box_loss="iou:log"), batch), -paired_iou(boxes, aims).clamp(min=1e-6).log().mean())
    torch.testing.assert_close(losses_of(build("fcos"), batch), (1 - paired_giou(boxes, aims)).mean())


def losses_of(model, batch):
    return model.losses(batch)["box"]


@pytest.mark.parametrize(("verb", "name"), [("segment", "mask-rcnn"), ("detect", "keypoint-rcnn")])
def test_heads_on_top_inherit_it(verb, name):
    assert registry.catalogue()[name].folder == verb
    assert build(name, box_loss="giou").box_loss.text == "giou"
    assert build(name).box_loss.text == "smooth-l1"
