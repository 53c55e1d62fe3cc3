"""The region proposal network: labels, the sampled batch, shapes for nine anchors, the way back to boxes; and that it learns."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou

from cvtool.batch import Place
from cvtool.models.detect import rpn
from cvtool.models.detect.rpn import IGNORED, NEGATIVE, POSITIVE, Head, label_anchors, sample_anchors
from cvtool.ops.anchors import cell_anchors
from cvtool.ops.boxes import clip, encode
from cvtool.ops.nms import nms
from cvtool.results import Boxes

pytestmark = pytest.mark.system("rpn")


def build(variant="tiny", classes=3, **changes):
    torch.manual_seed(0)
    return rpn.build(classes=classes, **rpn.VARIANTS[variant] | changes)


def batch_of(model, count=2, size=(64, 64)):
    draw = np.random.default_rng(0)
    pictures = [draw.integers(0, 255, (*size, 3), dtype=np.uint8) for _ in range(count)]
    return model.prepare(pictures, [Boxes(torch.tensor([[4.0, 6, 30, 28], [33, 30, 60, 62]]), torch.tensor([0, 2])) for _ in range(count)])


# ---- shapes -------------------------------------------------------------------------------------------------------------


def test_nine_anchors_give_18_scores_and_36_deltas_a_place():
    model = build("vgg16")
    head = model.head
    assert len(model.cell) == 9
    assert (head.scores.out_channels, head.deltas.out_channels) == (18, 36)
    assert (head.conv.kernel_size, head.conv.stride, head.conv.padding) == ((3, 3), (1, 1), (1, 1))
    assert {head.scores.kernel_size, head.deltas.kernel_size} == {(1, 1)}
    assert torch.equal(model.cell, cell_anchors((8, 16, 32), (0.5, 1.0, 2.0), base=16))
    assert model.stride == 16
    assert sum(isinstance(m, nn.Conv2d) for m in model.backbone.modules()) == 13  # VGG-16 to its last convolution
    with torch.no_grad():
        assert model.backbone(torch.zeros(1, 3, 64, 48)).shape == (1, 512, 4, 3)


@pytest.mark.parametrize("variant", ["small", "one-stage", "tiny"])
def test_the_light_variants_have_nine_anchors_at_stride_16_too(variant):
    model = build(variant, classes=4)
    assert (model.stride, len(model.cell)) == (16, 9)
    assert model.head.conv.out_channels == (32 if variant == "tiny" else 256)
    assert model.head.scores.out_channels == 9 * (5 if variant == "one-stage" else 2)  # classes and a background, or two


def test_scores_and_deltas_lie_as_the_anchors_do():
    head = Head(4, anchors=3, outputs=2, hidden=8)
    features = torch.randn(1, 4, 5, 6)
    scores, deltas = head(features)
    maps = head.deltas(F.relu(head.conv(features)))
    for row, col, k in ((0, 0, 0), (2, 5, 1), (4, 3, 2)):
        assert torch.equal(deltas[0, (row * 6 + col) * 3 + k], maps[0, 4 * k : 4 * k + 4, row, col])
    assert scores.shape == (1, 90, 2)


# ---- what is learned ----------------------------------------------------------------------------------------------------


def test_the_rule_of_the_labels():
    truth = torch.tensor([[0.0, 0, 100, 100], [300, 300, 400, 400]])
    table = [
        ([0.0, 0, 100, 71], POSITIVE, 0),  # IoU .71
        ([0, 0, 100, 69], IGNORED, 0),  # .69: neither
        ([0, 0, 100, 31], IGNORED, 0),  # .31
        ([0, 0, 100, 29], NEGATIVE, 0),  # .29
        ([500, 500, 600, 600], NEGATIVE, 0),  # none at all
        ([300, 300, 400, 340], POSITIVE, 1),  # .40, but the best that the second box has
        ([300, 360, 400, 400], POSITIVE, 1),  # as good as the best
        ([300, 370, 400, 400], IGNORED, 1),
    ]
    labels, matched = label_anchors(torch.tensor([row[0] for row in table]), truth)
    assert labels.tolist() == [row[1] for row in table]
    assert [m for m, label in zip(matched.tolist(), labels.tolist(), strict=True) if label == POSITIVE] == [0, 1, 1]


def test_a_box_far_from_all_anchors_and_no_box_at_all():
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    assert label_anchors(anchors, torch.tensor([[500.0, 500, 510, 510]]))[0].tolist() == [NEGATIVE, NEGATIVE]  # best of nothing is nothing
    assert label_anchors(anchors, torch.zeros(0, 4))[0].tolist() == [NEGATIVE, NEGATIVE]


def test_labels_equal_a_plain_loop():
    draw = torch.Generator().manual_seed(1)
    corner, side = torch.rand(300, 2, generator=draw) * 80, torch.rand(300, 2, generator=draw) * 40 + 5
    anchors, truth = torch.cat((corner, corner + side), 1), torch.tensor([[10.0, 10, 40, 50], [30, 20, 70, 60], [5, 60, 20, 90]])
    labels, matched = label_anchors(anchors, truth)
    overlap = box_iou(anchors, truth)
    for i in range(300):
        best_of_a_box = any(overlap[i, j] == overlap[:, j].max() for j in range(3))
        expected = POSITIVE if overlap[i].max() >= 0.7 or best_of_a_box else NEGATIVE if overlap[i].max() < 0.3 else IGNORED
        assert labels[i] == expected
        assert best_of_a_box or matched[i] == overlap[i].argmax()


@pytest.mark.parametrize(
    ("positive", "negative", "kept"), [(300, 1000, (128, 128)), (20, 1000, (20, 236)), (0, 1000, (0, 256)), (200, 10, (128, 10))]
)
def test_a_batch_of_256_is_filled_up_with_negatives(positive, negative, kept):
    labels = torch.cat((torch.full((positive,), POSITIVE), torch.full((negative,), NEGATIVE), torch.full((500,), IGNORED)))
    labels = labels[torch.randperm(len(labels))]
    chosen = sample_anchors(labels)
    assert len(set(chosen.tolist())) == len(chosen) == sum(kept)
    assert ((labels[chosen] == POSITIVE).sum(), (labels[chosen] == NEGATIVE).sum()) == kept


def test_the_sample_is_drawn_from_the_global_random_numbers():
    labels = torch.zeros(1000, dtype=torch.int64)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(sample_anchors(labels))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_the_losses_are_those_of_the_equation():
    """With fewer anchors than a batch holds nothing is left to chance, and both terms can be summed by hand."""
    model = build(samples=10**6).eval()
    batch = batch_of(model)
    raw, losses = model(batch), model.losses(batch)
    objectness, box = [], []
    for scores, deltas, target in zip(raw["scores"], raw["deltas"], batch.targets, strict=True):
        labels, matched = label_anchors(raw["anchors"], target.boxes)
        labels[~model.stands_in(raw["anchors"], batch.places[0])] = IGNORED
        used = labels != IGNORED
        positive = labels == POSITIVE
        assert positive.any()
        objectness.append(-scores.log_softmax(-1)[used].gather(1, labels[used, None]).mean())
        x = deltas[positive] - encode(target.boxes[matched[positive]], raw["anchors"][positive])
        box.append(torch.where(x.abs() < 1 / 9, 4.5 * x**2, x.abs() - 1 / 18).sum() / used.sum())
    torch.testing.assert_close(losses["objectness"], torch.stack(objectness).mean())
    torch.testing.assert_close(losses["box"], torch.stack(box).mean())
    assert losses["objectness"].item() == pytest.approx(math.log(2), abs=0.05)  # untrained it knows nothing


def test_the_category_does_not_matter_for_objectness_and_does_for_classes():
    for variant, same in (("tiny", True), ("one-stage", False)):
        model = outspoken(build(variant, samples=10**6, image_size=64, sizes=(12, 24, 48)))
        batch = batch_of(model, 1)
        before = model.losses(batch)["objectness"]
        batch.targets[0].labels[:] = 1
        change = (model.losses(batch)["objectness"] - before).abs().item()
        assert change < 1e-5 if same else change > 1e-3


def test_crowds_and_empty_pictures_teach_the_background_only():
    model = build().eval()
    batch = batch_of(model, 1)
    batch.targets[0] = Boxes(batch.targets[0].boxes, batch.targets[0].labels, crowd=torch.tensor([True, True]))
    assert model.losses(batch)["box"].item() == 0
    batch.targets[0] = Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    losses = model.losses(batch)
    assert losses["box"].item() == 0
    assert losses["objectness"].isfinite()


def test_gradient_reaches_everything_in_class_mode_too():
    model = build("one-stage", widths=(8, 16, 24), hidden=16, image_size=64).train()
    sum(model.losses(batch_of(model)).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


# ---- what is proposed ---------------------------------------------------------------------------------------------------


def outspoken(model):
    nn.init.normal_(model.head.scores.weight, std=0.5)
    nn.init.normal_(model.head.deltas.weight, std=0.2)
    return model.eval()


def test_proposals_are_moved_clipped_pruned_and_suppressed_in_that_order():
    model = outspoken(build(before=60, after=15))
    batch = batch_of(model, 1, size=(48, 64))
    with torch.no_grad():
        raw, found = model(batch), model.predict(batch)[0]
    scores = raw["scores"][0].softmax(-1)[:, 1]
    centre = raw["anchors"].reshape(-1, 2, 2).mean(1)
    order = [i for i in scores.argsort(descending=True).tolist() if centre[i, 0] < 64 and centre[i, 1] < 48][:60]
    boxes = BoxCoder((1.0, 1.0, 1.0, 1.0)).decode_single(raw["deltas"][0, order], raw["anchors"][order])
    boxes = clip(boxes, (48, 64))
    solid = ((boxes[:, 2:] - boxes[:, :2]) > 1).all(dim=1)
    boxes, best = boxes[solid], scores[order][solid]
    kept = nms(boxes, best, 0.7)[:15]
    torch.testing.assert_close(found.boxes, boxes[kept])
    torch.testing.assert_close(found.scores, best[kept])
    assert found.labels.unique().tolist() == [0]
    overlap = box_iou(found.boxes, found.boxes).fill_diagonal_(0)
    assert overlap.max() <= 0.7


def test_conf_iou_and_max_det_act():
    model = outspoken(build())
    batch = batch_of(model, 1)
    with torch.no_grad():
        usual = model.predict(batch)[0]
        middle = usual.scores.median().item()
        fewer, apart, few = (model.predict(batch, **k)[0] for k in ({"conf": middle}, {"iou": 0.1}, {"max_det": 3}))
    assert 0 < len(fewer) < len(usual)
    assert (fewer.scores > middle).all()
    assert box_iou(apart.boxes, apart.boxes).fill_diagonal_(0).max() <= 0.1
    assert torch.equal(few.boxes, usual.boxes[:3])


def test_class_mode_scores_every_class_and_suppresses_within_it():
    model = outspoken(build("one-stage", widths=(8, 16, 24), hidden=32, image_size=64, sizes=(12, 24, 48)))
    batch = batch_of(model, 1)
    with torch.no_grad():
        raw, found = model(batch), model.predict(batch, conf=0.2)[0]
    assert raw["scores"].shape[-1] == 4
    assert found.labels.unique().tolist() == [0, 1, 2]
    assert (found.scores > 0.2).all()
    for label in range(3):
        own = found.boxes[found.labels == label]
        assert box_iou(own, own).fill_diagonal_(0).max() <= 0.5


def test_all_categories_are_one_unless_it_has_classes():
    for variant, expected in (("tiny", [{"id": 1, "name": "object"}]), ("one-stage", [{"id": 7, "name": "cat"}])):
        model = build(variant, classes=1)
        model.categories = [{"id": 7, "name": "cat"}]
        assert model.categories == expected
        assert model.merges_categories == ("object" if variant == "tiny" else None)


def test_padding_proposes_nothing():
    anchors = torch.tensor([[0.0, 0, 20, 20], [35, 0, 45, 10], [36, 0, 46, 10], [0, 25, 10, 35]])
    place = Place(height=60, width=80, inner_height=30, inner_width=41)
    assert rpn.RPN.stands_in(anchors, place).tolist() == [True, True, False, False]


# ---- and it learns ------------------------------------------------------------------------------------------------------


def recall(model, samples, count=100):
    """The share of true boxes that one of the first `count` proposals covers with IoU >= 0.5."""
    model.eval()
    hit = total = 0
    for pixels, target in samples:
        with torch.no_grad():
            found = model.predict(model.prepare([pixels]), max_det=count)[0]
        hit += int((box_iou(target.boxes, found.boxes) >= 0.5).any(dim=1).sum())
        total += len(target.boxes)
    return hit / total


def test_a_few_steps_on_blood_cells_raise_its_recall(data):
    from cvtool.data.dataset import Dataset
    from cvtool.data.formats import voc

    records = [r for r, _ in zip(voc.read(data / "bccd", split="train"), range(32), strict=False)]
    table = [{"id": i, "name": n} for i, n in enumerate(sorted({a["category"] for r in records for a in r["annotations"]}), 1)]
    samples = [(s.pixels, s.target) for s in Dataset(records, table)]
    model = build(image_size=160, sizes=(16, 32, 64), hidden=48)
    before = recall(model, samples)
    turns = 96
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=turns)
    ready = [model.prepare(*map(list, zip(*samples[i : i + 4], strict=True))) for i in range(0, 32, 4)]
    model.train()
    for turn in range(turns):
        optimizer.zero_grad()
        sum(model.losses(ready[turn % len(ready)]).values()).backward()
        optimizer.step()
        schedule.step()
    after = recall(model, samples)
    assert after > before + 0.15, (before, after)
    assert after > 0.6, (before, after)
