"""SSD: default boxes of many shapes on maps of many sizes, in one shot (Liu 2015, arXiv:1512.02325).

torchvision's modules under torchvision's names, so that its published weights load key for key; ours are the cut into raw outputs, losses
and prediction. Classes meet in a softmax whose label 0 is the background, so a category's index is its label minus one.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.layers.anchors import DefaultBoxes
from cvtool.layers.resnet import NarrowResNet
from cvtool.losses.smooth_l1 import smooth_l1
from cvtool.models.detect._one_stage import chosen, image_list, results, truths
from cvtool.ops.hard_negatives import hard_negatives
from cvtool.results import Boxes
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models import vgg
    from torchvision.models.detection import ssd as tv
    from torchvision.models.detection._utils import BoxCoder, SSDMatcher
    from torchvision.ops import box_iou

VARIANTS = {
    "vgg16": {"backbone": "vgg16"},
    "tiny": {"backbone": "narrow", "image_size": 64},
}
WEIGHTS = {
    "vgg16@coco": {
        "url": "https://download.pytorch.org/models/ssd300_vgg16_coco-b556d3b4.pth",
        "sha256": "b556d3b4",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train",
        "categories": "coco",
        "metrics": {"AP": 0.251},
    },
}
ALIASES = {"ssd300": "vgg16", "ssd300_vgg16": "vgg16"}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 2e-3,
    "weight_decay": 5e-4,
    "batch_size": 32,
    "epochs": 120,
    "schedule": "step",
    "warmup": 0.01,
    "augment": "flip,crop",
    "variants": {
        "tiny": {"optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.01, "batch_size": 4, "epochs": 20, "schedule": "one-cycle", "augment": "flip"},
    },
}


class SSD(nn.Module):
    """The detector over maps that shrink.

    backbone: B 3 H W -> maps by level. head: list of maps -> {"cls_logits": B N K+1, "bbox_regression": B N 4}.
    defaults: (score, IoU, detections) thresholds at prediction; candidates: boxes a class that enter suppression.
    neg_ratio: negatives a foreground box that the classifier learns from, the hardest of each image; below 1, `neg_nms` leaves out those that
      overlap a harder one by more than that.
    """

    result = Boxes

    def __init__(self, backbone: nn.Module, head: nn.Module, anchors: DefaultBoxes, *, prepare: Prepare,
                 defaults: tuple[float, float, int] = (0.01, 0.45, 200), candidates: int = 400,
                 neg_ratio: float = 3.0, neg_nms: float = 1.0) -> None:  # fmt: skip
        super().__init__()
        if neg_ratio <= 0 or not 0 < neg_nms <= 1:
            raise ValueError(f"neg_ratio is above 0 and neg_nms, an IoU, above 0 and at most 1, not {neg_ratio} and {neg_nms}")
        self.neg_ratio, self.neg_nms = neg_ratio, neg_nms
        self.backbone, self.head, self.anchor_generator = backbone, head, anchors
        self.defaults, self.candidates = defaults, candidates
        self.coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
        self.matcher = SSDMatcher(0.5)
        self.prepare = prepare

    def forward(self, batch: Batch) -> dict[str, Any]:
        """A batch -> {"logits": B N K+1, "deltas": B N 4, "anchors": a list of N 4}."""
        features = list(self.backbone(batch.images).values())
        raw = self.head(features)
        anchors = self.anchor_generator(image_list(batch), features)
        return {"logits": raw["cls_logits"].float(), "deltas": raw["bbox_regression"].float(), "anchors": anchors}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """box: smooth L1; classifier: cross-entropy of the foreground and of `neg_ratio` times as many hardest negatives. Each per foreground box."""
        raw = self.forward(batch)
        classifier, box, count = [], [], 0
        for logits, deltas, anchors, truth in zip(raw["logits"], raw["deltas"], raw["anchors"], truths(batch, shift=1), strict=True):
            matched = self.match(truth["boxes"], anchors)
            found = torch.where(matched >= 0)[0]
            wanted = torch.zeros_like(matched)
            wanted[found] = truth["labels"][matched[found]]
            surprise = F.cross_entropy(logits, wanted, reduction="none")  # N
            hard = hard_negatives(surprise, matched < 0, int(self.neg_ratio * len(found)), anchors, iou=self.neg_nms)
            classifier.append(surprise[found].sum() + surprise[hard].sum())
            aims = self.coder.encode_single(truth["boxes"][matched[found]], anchors[found])
            box.append(smooth_l1(deltas[found], aims, reduction="sum"))
            count += len(found)
        return {"classifier": torch.stack(classifier).sum() / max(1, count), "box": torch.stack(box).sum() / max(1, count)}

    def match(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """For each default box the index of its truth (IoU >= 0.5, or the best one of a truth), -1 for background."""
        if len(boxes) == 0:
            return anchors.new_full((len(anchors),), -1, dtype=torch.int64)
        return self.matcher(box_iou(boxes, anchors))

    def predict(self, batch: Batch, *, conf: float | None = None, iou: float | None = None, max_det: int | None = None) -> list[Boxes]:
        """Boxes above `conf` after per-class suppression at `iou`, at most `max_det` an image (SSD: 0.01, 0.45, 200; SSDlite: 0.001, 0.55, 300)."""
        raw = self.forward(batch)
        decoder = SimpleNamespace(box_coder=self.coder, topk_candidates=self.candidates, **chosen(conf, iou, max_det, defaults=self.defaults))
        return results(batch, tv.SSD.postprocess_detections(decoder, outputs(raw), raw["anchors"], image_list(batch).image_sizes), shift=1)


def outputs(raw: dict[str, Any]) -> dict[str, Tensor]:
    """The head's outputs under torchvision's names."""
    return {"cls_logits": raw["logits"], "bbox_regression": raw["deltas"]}


def vgg16_features() -> nn.Module:
    """VGG-16 without its classifier (nine tenths of its parameters, which nobody would use), and SSD's further maps."""
    features = vgg.make_layers(vgg.cfgs["D"])
    for module in features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return tv.SSDFeatureExtractorVGG(features, highres=False)


def build(
    *, classes: int, backbone: str, image_size: int = 300, widths: tuple[int, ...] = (8, 16, 16, 24), neg_ratio: float = 3.0, neg_nms: float = 1.0
) -> SSD:
    """`classes` categories; one more output is the background. neg_ratio, neg_nms: which negatives are learned from."""
    if backbone == "narrow":
        body: nn.Module = NarrowResNet(tuple(widths), returns=(1, 2, 3))
        anchors, channels = DefaultBoxes([[2], [2, 3], [2]], scales=[0.15, 0.35, 0.6, 0.9]), list(widths[1:])
        prepare = Prepare(resize="stretch", size=image_size)
    else:
        body, channels = vgg16_features(), [512, 1024, 512, 256, 256, 256]
        scales = [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]
        anchors = DefaultBoxes([[2], [2, 3], [2, 3], [2, 3], [2], [2]], scales=scales, steps=[8, 16, 32, 64, 100, 300])
        # VGG's own statistics, on values of 0 to 255.
        prepare = Prepare(resize="stretch", size=image_size, mean=(0.48235, 0.45882, 0.40784), std=(1 / 255,) * 3, antialias=False)
    head = tv.SSDHead(channels, anchors.num_anchors_per_location(), classes + 1)
    return SSD(body, head, anchors, prepare=prepare, neg_ratio=neg_ratio, neg_nms=neg_nms)
