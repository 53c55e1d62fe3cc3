"""RetinaNet: the two heads, the focal loss over all anchors, the prior; and torchvision's numbers through our cut."""

import math
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection import RetinaNet_ResNet50_FPN_V2_Weights, RetinaNet_ResNet50_FPN_Weights, retinanet_resnet50_fpn_v2
from torchvision.models.detection import retinanet as tv
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops import box_iou
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

from cvtool import weights
from cvtool.categories import coco_91
from cvtool.errors import UsageError
from cvtool.models.detect import retinanet
from cvtool.results import Boxes

pytestmark = pytest.mark.system("retinanet")


def build(variant, classes=3, **changes):
    torch.manual_seed(0)
    return retinanet.build(classes=classes, **retinanet.VARIANTS[variant] | changes)


def outspoken(model):
    """Without its prior an untrained model has something to say."""
    nn.init.zeros_(model.head.classification_head.cls_logits.bias)
    return model


@pytest.mark.parametrize("variant", ["resnet50", "resnet50-v2", "small", "tiny"])
def test_the_heads_are_3x3_convolutions_that_share_nothing(variant):
    with torch.device("meta"):
        head = build(variant).head
    first, second = head.classification_head, head.regression_head
    for tower in (first, second):
        convolutions = [m for m in tower.modules() if isinstance(m, nn.Conv2d)]
        assert {c.kernel_size for c in convolutions} == {(3, 3)}
        assert len(convolutions) == (5 if variant.startswith("resnet50") else 1 + retinanet.VARIANTS[variant].get("depth", 2))
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}


def test_the_prior_makes_every_anchor_background_with_99_percent():
    for variant in ("small", "tiny"):
        model = build(variant)
        bias = model.head.classification_head.cls_logits.bias
        torch.testing.assert_close(bias, torch.full_like(bias, -math.log((1 - 0.01) / 0.01)))
        assert bias.sigmoid().mean().item() == pytest.approx(0.01)


def test_the_published_facts_are_torchvisions_own(published_facts):
    """Among them the parameter counts: 34 014 999 with a frozen normalisation, 38 198 935 of the second version."""
    published_facts(retinanet, classes=91, enums=(RetinaNet_ResNet50_FPN_Weights, RetinaNet_ResNet50_FPN_V2_Weights))
    with torch.device("meta"):
        assert sum(p.numel() for p in build("resnet50", 91).parameters()) == 34_014_999
    assert len(coco_91()) == 91


def test_predictions_and_losses_equal_torchvisions(against_torchvision, smaller):
    ours = smaller(outspoken(build("resnet50", 5)), 128, 176)
    trunk = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    theirs = tv.RetinaNet(_resnet_fpn_extractor(trunk, 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256)), 5, 128, 176)
    overwrite_eps(theirs, 0.0)
    wanted, losses = against_torchvision(ours, theirs, shift=0, conf=0.3)
    assert losses == pytest.approx({"classifier": wanted["classification"], "box": wanted["bbox_regression"]}, rel=1e-4)


def test_predictions_and_losses_equal_torchvisions_second_version(against_torchvision, smaller):
    ours = smaller(outspoken(build("resnet50-v2", 5)), 128, 176)
    theirs = retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=5, min_size=128, max_size=176)
    wanted, losses = against_torchvision(ours, theirs, shift=0, conf=0.3)
    assert losses == pytest.approx({"classifier": wanted["classification"], "box": wanted["bbox_regression"]}, rel=1e-4)


def test_the_published_file_s_old_names_are_understood(tmp_path):
    """The first file was saved when a convolution of a head, or of the pyramid, had no sequence around it."""
    own, old = build("resnet50", 91).state_dict(), {}
    for key, value in own.items():
        key = re.sub(r"(_blocks\.\d)\.0\.", r"\1.", key)
        old[re.sub(r"(_head\.conv)\.(\d)\.0\.", lambda m: f"{m[1]}.{2 * int(m[2])}.", key)] = value
    assert sum(key not in own for key in old) == 28
    torch.save(old, tmp_path / "published.pth")
    model, info = weights.load(f"retinanet.resnet50@{tmp_path}/published.pth")
    assert [c["id"] for c in info.categories if c][:12] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13]  # COCO's own ids, with its holes
    for key, value in model.state_dict().items():
        assert torch.equal(value, own[key]), key


def example(model, boxes, labels):
    generator = torch.Generator().manual_seed(1)
    picture = torch.randint(0, 255, (64, 64, 3), dtype=torch.uint8, generator=generator).numpy()
    return model.prepare([picture], [Boxes(torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64))])


def test_the_loss_is_focal_over_all_anchors_and_smooth_l1_over_the_foreground():
    """Written out anchor by anchor: -alpha_t (1 - p_t)^2 ln p_t over classes, plus lambda [foreground] smooth L1 of the four deltas."""
    model = outspoken(build("tiny", box_weight=3.0))
    batch = example(model, [[8.0, 8, 40, 44], [30, 20, 60, 60]], [2, 0])
    with torch.no_grad():
        raw, losses = model(batch), {k: float(v) for k, v in model.losses(batch).items()}
    truth = batch.targets[0]
    anchors, logits, deltas = raw["anchors"][0], raw["logits"][0], raw["deltas"][0]
    overlaps = box_iou(truth.boxes, anchors)  # M N
    best_of_truth = overlaps.max(dim=1).values
    classifier = box = 0.0
    foreground = undecided = 0
    for n, anchor in enumerate(anchors):
        value, m = overlaps[:, n].max(dim=0)
        rescued = bool((overlaps[:, n] == best_of_truth).any())
        if 0.4 <= value < 0.5 and not rescued:
            undecided += 1
            continue
        positive = value >= 0.5 or rescued
        for k in range(3):
            p = float(logits[n, k].sigmoid())
            hit = positive and int(truth.labels[m]) == k
            p_t, alpha_t = (p, 0.25) if hit else (1 - p, 0.75)
            classifier -= alpha_t * (1 - p_t) ** 2 * math.log(p_t)
        if positive:
            foreground += 1
            w, h = anchor[2] - anchor[0], anchor[3] - anchor[1]
            a, t = (anchor[:2] + anchor[2:]) / 2, truth.boxes[m]
            centre = ((t[:2] + t[2:]) / 2 - a) / torch.stack([w, h])
            size = ((t[2:] - t[:2]) / torch.stack([w, h])).log()
            box += float(F.smooth_l1_loss(deltas[n], torch.cat([centre, size]), beta=1 / 9, reduction="sum"))
    assert foreground > 1
    assert undecided > 1
    assert losses["classifier"] == pytest.approx(classifier / foreground, rel=1e-4)
    assert losses["box"] == pytest.approx(3 * box / foreground, rel=1e-4)


def test_a_picture_without_objects_has_no_box_loss_and_a_finite_class_loss():
    model = build("tiny")
    losses = model.losses(example(model, [], []))
    assert losses["box"].item() == 0
    assert losses["classifier"].item() > 0
    sum(losses.values()).backward()


def test_crowds_and_boxes_without_area_teach_nothing():
    model = build("tiny")
    plain = example(model, [[8.0, 8, 40, 44]], [1])
    more = example(model, [[8.0, 8, 40, 44], [10, 10, 30, 30], [5, 5, 5, 20]], [1, 0, 2])
    more.targets[0] = replace(more.targets[0], crowd=torch.tensor([False, True, False]))
    with torch.no_grad():
        assert model.losses(plain) == model.losses(more)


@pytest.mark.parametrize("kind", ["smooth-l1", "l1", "giou"])
def test_each_box_loss_vanishes_where_the_boxes_are_right(kind):
    model = build("tiny", box_loss=kind)
    anchors = torch.tensor([[0.0, 0, 10, 10], [5, 5, 30, 25]])
    boxes = torch.tensor([[1.0, 1, 12, 9], [4, 8, 30, 30]])
    right = model.coder.encode_single(boxes, anchors)
    assert model.box_losses(right, boxes, anchors).sum().item() == pytest.approx(0, abs=1e-5)
    assert model.box_losses(right + 0.1, boxes, anchors).sum() > 0.01


def test_unknown_box_loss():
    with pytest.raises(UsageError, match="smooth-l1"):
        build("tiny", box_loss="l3")


def test_thresholds_act_on_one_call(thresholds_pass_through):
    thresholds_pass_through(outspoken(build("tiny")), conf=0.3)


def test_anchors_keep_their_place_under_mixed_precision(batch_of):
    """torchvision would round them to steps of two pixels, and keep the rounded sizes."""
    model = build("small")
    model.prepare = replace(model.prepare, size=416)
    batch = batch_of(model)
    with torch.no_grad():
        plain = model(batch)["anchors"][0]
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(batch)
        again = model(batch)["anchors"][0]
    assert mixed["logits"].dtype == torch.float32
    assert torch.equal(mixed["anchors"][0], plain)
    assert torch.equal(again, plain)


def test_small_has_anchors_for_a_platelet_and_a_white_cell_and_fits_the_zoo():
    with torch.device("meta"):
        model = build("small")
    count = sum(p.numel() for p in model.parameters())
    assert count < 4_000_000  # under 8 MB in float16
    sizes = [s for level in model.anchor_generator.sizes for s in level]
    assert min(sizes) <= 26
    assert max(sizes) >= 130  # pixels at 416


def test_frozen_normalisation_has_no_parameters():
    with torch.device("meta"):
        model = build("resnet50")
    frozen = [m for m in model.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert len(frozen) == 53
    assert {m.eps for m in frozen} == {0.0}
