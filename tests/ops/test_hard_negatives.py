"""Hard negative mining: what is picked is what a plain sort and a plain suppression pick; and SSD learns from just that."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from cvtool.models.detect import ssd
from cvtool.ops.hard_negatives import hard_negatives
from cvtool.results import Boxes
from cvtool.tasks import train as task


def overlap(a: list[float], b: list[float]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(w, 0) * max(h, 0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def by_force(losses: list[float], negative: list[bool], count: int, boxes: list[list[float]], iou: float) -> list[int]:
    """All negatives by falling loss; one that overlaps a kept one too much goes; the first `count` stay. (`iou` is no ratio of small whole numbers:
    an overlap of just that much is another one in float32.)"""
    kept: list[int] = []
    for index in sorted((i for i, is_one in enumerate(negative) if is_one), key=lambda i: -losses[i]):
        if iou >= 1 or all(overlap(boxes[index], boxes[other]) <= iou for other in kept):
            kept.append(index)
    return kept[:count]


@pytest.mark.system("hard-negative-mining")
@given(some.integers(1, 80), some.integers(0, 30), some.sampled_from([0.1037, 0.3011, 0.5003, 0.7009, 1.0]), some.integers(0, 10_000))
def test_the_picked_set_is_that_of_a_brute_force_sort(size: int, count: int, iou: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    corners = draw.integers(0, 40, (size, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + draw.integers(1, 30, (size, 2))], 1)
    losses, negative = draw.permutation(size) / 7, draw.random(size) < 0.8
    found = hard_negatives(torch.tensor(losses), torch.tensor(negative), count, torch.tensor(boxes), iou=iou)
    assert found.tolist() == by_force(losses.tolist(), negative.tolist(), count, boxes.tolist(), iou)


def test_equal_losses_are_taken_in_their_order_and_too_few_are_all() -> None:
    losses, negative = torch.tensor([1.0, 2.0, 2.0, 1.0]), torch.tensor([True, True, True, False])
    assert hard_negatives(losses, negative, 2).tolist() == [1, 2]
    assert hard_negatives(losses, negative, 9).tolist() == [1, 2, 0]
    assert hard_negatives(losses, negative & False, 3).tolist() == []


@pytest.mark.system("hard-negative-mining")
@pytest.mark.parametrize(("ratio", "iou"), [(3.0, 0.5), (3.0, 1.0), (1.0, 0.7)])
def test_ssd_learns_from_the_mined_ones(ratio: float, iou: float) -> None:
    """`cvtool train -m ssd.tiny --neg-ratio 3 --neg-nms 0.5`: its loss is that of the foreground and of the negatives that brute force picks."""
    planned = task.plan("ssd.tiny", None, layers=[{"neg_ratio": ratio, "neg_nms": iou}])
    assert {**planned.arguments} == {"neg_ratio": ratio, "neg_nms": iou}
    torch.manual_seed(0)
    model = ssd.build(classes=3, **ssd.VARIANTS["tiny"] | planned.arguments)
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    truth = Boxes(torch.tensor([[8.0, 8, 40, 44], [30, 40, 60, 62]]), torch.tensor([1, 2]))
    batch = model.prepare([picture], [truth])
    with torch.no_grad():
        raw, losses = model(batch), model.losses(batch)
    anchors = raw["anchors"][0]
    matched = model.match(truth.boxes, anchors)
    labels = torch.where(matched >= 0, truth.labels[matched.clamp(min=0)] + 1, 0)
    each = torch.nn.functional.cross_entropy(raw["logits"][0], labels, reduction="none")
    positive = int((matched >= 0).sum())
    picked = by_force(each.tolist(), (matched < 0).tolist(), int(ratio * positive), anchors.tolist(), iou)
    assert len(picked) == int(ratio * positive) > 0
    expected = (each[matched >= 0].sum() + each[picked].sum()) / positive
    assert losses["classifier"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("wrong", [{"neg_ratio": 0.0}, {"neg_ratio": -1.0}, {"neg_nms": 0.0}, {"neg_nms": 1.5}])
def test_wrong_numbers_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="neg_ratio is above 0"):
        ssd.build(classes=3, **ssd.VARIANTS["tiny"] | wrong)
