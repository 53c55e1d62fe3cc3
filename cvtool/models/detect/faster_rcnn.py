"""Faster R-CNN: a network that proposes boxes and one that classifies them share their features (Ren 2015, arXiv:1506.01497).

torchvision's modules under torchvision's names, so that its published weights load key for key; ours are the cut into features, losses
and prediction, and `small`, a light variant with trainable normalisation and stride-4 features that learns from scratch on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cvtool.batch import Batch, Place, Prepare
from cvtool.layers.anchors import Anchors
from cvtool.layers.fpn import Pyramid
from cvtool.layers.resnet import NarrowResNet
from cvtool.losses.cross_entropy import cross_entropy
from cvtool.models.detect._box_loss import BoxLoss
from cvtool.results import Boxes
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models import mobilenet_v3_large, resnet50
    from torchvision.models.detection import faster_rcnn as tv
    from torchvision.models.detection.backbone_utils import _mobilenet_extractor, _resnet_fpn_extractor
    from torchvision.models.detection.image_list import ImageList
    from torchvision.models.detection.rpn import RPNHead
    from torchvision.ops import MultiScaleRoIAlign
    from torchvision.ops.misc import FrozenBatchNorm2d

VARIANTS = {
    "resnet50": {"backbone": "resnet50"},
    "resnet50-v2": {"backbone": "resnet50-v2"},
    "mobilenet": {"backbone": "mobilenet"},
    "mobilenet-320": {"backbone": "mobilenet", "image_size": 320, "max_size": 640, "proposals": 150, "min_score": 0.05},
    "small": {"backbone": "narrow", "widths": (32, 64, 128, 256), "image_size": 416, "min_score": 0.01},
    "tiny": {"backbone": "narrow", "widths": (8, 16, 16, 24), "channels": 16, "image_size": 64, "base_anchor": 8},
}
WEIGHTS = {
    "resnet50@coco": {
        "url": "https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        "sha256": "258fb6c6",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train",
        "categories": "coco",
        "metrics": {"AP": 0.370},
    },
    "resnet50-v2@coco": {
        "url": "https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        "sha256": "dd69338a",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train",
        "categories": "coco",
        "metrics": {"AP": 0.467},
    },
    "mobilenet@coco": {
        "url": "https://download.pytorch.org/models/fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
        "sha256": "fb6a3cc7",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train",
        "categories": "coco",
        "metrics": {"AP": 0.328},
    },
    "mobilenet-320@coco": {
        "url": "https://download.pytorch.org/models/fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
        "sha256": "907ea3f9",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train",
        "categories": "coco",
        "metrics": {"AP": 0.228},
    },
}
ALIASES = {
    "fasterrcnn": "",
    "fasterrcnn_resnet50_fpn": "resnet50",
    "fasterrcnn_resnet50_fpn_v2": "resnet50-v2",
    "fasterrcnn_mobilenet_v3_large_fpn": "mobilenet",
    "fasterrcnn_mobilenet_v3_large_320_fpn": "mobilenet-320",
}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 0.02,
    "weight_decay": 1e-4,
    "batch_size": 16,
    "epochs": 26,
    "schedule": "step",
    "warmup": 0.02,
    "augment": "flip",
    "variants": {
        "small": {
            "optimizer": "adamw",
            "lr": 1e-3,
            "weight_decay": 0.02,
            "batch_size": 4,
            "epochs": 40,
            "schedule": "one-cycle",
            "ema": 0.995,
            "channels_last": True,
            "augment": "flips,crop",
        },
        "tiny": {"optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.01, "batch_size": 4, "epochs": 20, "schedule": "one-cycle", "augment": "flip"},
    },
}


class FasterRCNN(nn.Module):
    """The two-stage detector over any pyramid.

    forward: a batch -> {"features": maps by level, "proposals": a list of P 4 boxes, "logits": sum(P) C+1, "deltas": sum(P) 4(C+1)};
    label 0 of the second stage is the background, so a category's index is its label minus one.
    box_loss: the second stage's, "smooth-l1" with beta 1/9 as published, "l1", "iou" or "giou"; see `BoxLoss`.
    """

    result = Boxes

    def __init__(self, backbone: nn.Module, *, classes: int, prepare: Prepare, rpn: dict[str, Any] | None = None,
                 heads: dict[str, Any] | None = None, box_loss: str = "smooth-l1") -> None:  # fmt: skip
        super().__init__()
        parts = tv.FasterRCNN(backbone, None if "box_predictor" in (heads or {}) else classes + 1, **(rpn or {}), **(heads or {}))
        self.backbone, self.rpn, self.roi_heads = parts.backbone, parts.rpn, parts.roi_heads
        made = self.rpn.anchor_generator
        self.rpn.anchor_generator = made if isinstance(made, Anchors) else Anchors(made.sizes, made.aspect_ratios)
        self.rpn.head.register_forward_hook(_in_full_precision)
        self.prepare = prepare
        self.box_loss = BoxLoss(box_loss, beta=1 / 9)
        self.canonical_scale = self.roi_heads.box_roi_pool.canonical_scale

    def features(self, batch: Batch) -> tuple[ImageList, dict[str, Tensor]]:
        """The images with their unpadded sizes, and the pyramid's maps."""
        images = ImageList(batch.images, [(place.inner_height, place.inner_width) for place in batch.places])
        return images, self.backbone(batch.images)

    def forward(self, batch: Batch) -> dict[str, Any]:
        images, features = self.features(batch)
        with settings(self.rpn, training=False):
            proposals, _ = self.rpn(images, features)
        logits, deltas = self.second_stage(features, proposals, images.image_sizes)
        return {"features": features, "proposals": proposals, "logits": logits, "deltas": deltas}

    def second_stage(self, features: dict[str, Tensor], proposals: list[Tensor], sizes: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Each proposal's class logits and its box deltas, one set of four a class (class-specific, as in the paper)."""
        pooled = self.roi_heads.box_roi_pool(features, proposals, sizes)
        logits, deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        return logits.float(), deltas.float()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """objectness and rpn_box of the first stage (eq. 1), classifier and box of the second; subclasses add their heads'."""
        targets = [self.target(t) for t in batch.targets or []]
        images, features = self.features(batch)
        with settings(self.rpn, training=True):
            proposals, first = self.rpn(images, features, targets)
        with torch.no_grad():
            proposals, matched, labels, _ = self.roi_heads.select_training_samples(proposals, targets)
        logits, deltas = self.second_stage(features, proposals, images.image_sizes)
        classifier = cross_entropy(logits, torch.cat(labels))
        box = self.box_losses(deltas, proposals, matched, labels, targets)
        losses = {"objectness": first["loss_objectness"], "rpn_box": first["loss_rpn_box_reg"], "classifier": classifier, "box": box}
        return losses | self.head_losses(features, images.image_sizes, proposals, matched, labels, targets)

    def box_losses(self, deltas: Tensor, proposals: list[Tensor], matched: list[Tensor], labels: list[Tensor], targets) -> Tensor:
        """`box_loss` of the foreground proposals and their true class's deltas, over the number of all proposals (Girshick 2015, eq. 1)."""
        kinds = torch.cat(labels)
        found = torch.where(kinds > 0)[0]
        rois = torch.cat(proposals)[found]
        boxes = torch.cat([t["boxes"][m[k > 0]] for t, m, k in zip(targets, matched, labels, strict=True)])
        moved = deltas.reshape(len(deltas), -1, 4)[found, kinds[found]]
        coder = self.roi_heads.box_coder
        total = self.box_loss(moved, boxes, encode=lambda b: coder.encode_single(b, rois), decode=lambda d: coder.decode_single(d, rois))
        return total / max(1, len(kinds))

    def target(self, target: Boxes) -> dict[str, Tensor]:
        """One image's truth in torchvision's words; crowds teach nothing and are left out."""
        keep = ~target.crowd if target.crowd is not None else slice(None)
        return {"boxes": target.boxes[keep].float(), "labels": target.labels[keep].long() + 1}

    def head_losses(self, features, sizes, proposals, matched, labels, targets) -> dict[str, Tensor]:
        """What further heads on the same proposals add; none here."""
        return {}

    def predict(self, batch: Batch, *, conf: float | None = None, iou: float | None = None, max_det: int | None = None) -> list[Boxes]:
        """Boxes above `conf` (default 0.05) after per-class suppression at `iou` (0.5), at most `max_det` (100) an image."""
        raw = self.forward(batch)
        heads = self.roi_heads
        sizes = [(place.inner_height, place.inner_width) for place in batch.places]
        changes = {"score_thresh": conf, "nms_thresh": iou, "detections_per_img": max_det}
        with settings(heads, **{name: value for name, value in changes.items() if value is not None}):
            found = heads.postprocess_detections(raw["logits"], raw["deltas"], raw["proposals"], sizes)
        return self.results(batch.places, raw["features"], sizes, *found)

    def results(self, places: list[Place], features, sizes, boxes, scores, labels) -> list[Boxes]:
        """Detections in the batch's pixels -> typed results in the originals'."""
        return [Boxes(p.boxes_back(b), k - 1, s) for p, b, s, k in zip(places, boxes, scores, labels, strict=True)]


def _in_full_precision(head: nn.Module, inputs: Any, outputs: tuple[list[Tensor], list[Tensor]]) -> tuple[list[Tensor], ...]:
    """Under autocast the convolutions may compute in bfloat16, the boxes may not: eight bits place a 400-pixel coordinate only to two pixels."""
    return tuple([level.float() for level in levels] for levels in outputs)


@contextmanager
def settings(module: nn.Module, **values: Any) -> Iterator[None]:
    """Plain attributes of one module for the length of a call. `training` is set on it alone: its children's normalisation is not touched."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def resnet50_fpn(*, frozen: bool) -> nn.Module:
    """ResNet-50 with a pyramid of strides 4 to 64. `frozen` holds the normalisation's scale and shift as constants, as the first recipes did."""
    if frozen:  # the published weights were trained with an epsilon of zero
        return _resnet_fpn_extractor(resnet50(weights=None, norm_layer=partial(FrozenBatchNorm2d, eps=0.0)), 5)
    return _resnet_fpn_extractor(resnet50(weights=None, norm_layer=nn.BatchNorm2d), 5, norm_layer=nn.BatchNorm2d)


def parts(
    backbone: str, *, classes: int, widths=(32, 64, 128, 256), channels: int = 96, base_anchor: int = 16
) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    """(backbone, keywords of the first stage, keywords of the second) of a size; shared by the papers that add heads to this one."""
    if backbone == "resnet50":
        return resnet50_fpn(frozen=True), {}, {}
    if backbone == "resnet50-v2":
        body = resnet50_fpn(frozen=False)
        head = RPNHead(body.out_channels, 3, conv_depth=2)
        box_head = tv.FastRCNNConvFCHead((body.out_channels, 7, 7), [256] * 4, [1024], norm_layer=nn.BatchNorm2d)
        return body, {"rpn_head": head}, {"box_head": box_head}
    if backbone == "mobilenet":
        body = _mobilenet_extractor(mobilenet_v3_large(weights=None, norm_layer=FrozenBatchNorm2d), True, 6)
        anchors = Anchors(((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3)
        return body, {"rpn_anchor_generator": anchors}, {}
    # Anchors double with the stride, from `base_anchor` at stride 4: on a 416-pixel picture they span a platelet and a white cell.
    anchors = Anchors(tuple((base_anchor * 2**i * 5 // 4,) for i in range(5)), ((0.6, 1.0, 1.6),) * 5)
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2, canonical_scale=96)
    box_head = tv.TwoMLPHead(channels * 49, 256)
    return (
        Pyramid(NarrowResNet(tuple(widths)), channels),
        {
            "rpn_anchor_generator": anchors,
            "rpn_pre_nms_top_n_train": 800,
            "rpn_pre_nms_top_n_test": 500,
            "rpn_post_nms_top_n_train": 600,
            "rpn_post_nms_top_n_test": 300,
        },
        {
            "box_roi_pool": pool,
            "box_head": box_head,
            "box_predictor": tv.FastRCNNPredictor(256, classes + 1),
            "box_batch_size_per_image": 128,
            "box_detections_per_img": 200,
        },
    )


def prepare_for(backbone: str, image_size: int, max_size: int | None) -> Prepare:
    """Published sizes scale the shorter edge without a filter, as they were trained; ours the longer one, filtered."""
    if backbone == "narrow":
        return Prepare(resize="longest", size=image_size, multiple_of=32)
    return Prepare(resize="shortest", size=image_size, max_size=max_size, multiple_of=32, antialias=False)


def build(*, classes: int, backbone: str, image_size: int = 800, max_size: int | None = 1333, proposals: int = 1000, min_score: float = 0.05,
          box_loss: str = "smooth-l1", **sizes: Any) -> FasterRCNN:  # fmt: skip
    body, rpn, heads = parts(backbone, classes=classes, **sizes)
    if backbone == "mobilenet":
        rpn |= {"rpn_pre_nms_top_n_test": proposals, "rpn_post_nms_top_n_test": proposals, "rpn_score_thresh": 0.05}
    heads |= {"box_score_thresh": min_score}
    return FasterRCNN(body, classes=classes, prepare=prepare_for(backbone, image_size, max_size), rpn=rpn, heads=heads, box_loss=box_loss)
