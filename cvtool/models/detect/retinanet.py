"""RetinaNet: every anchor is classified at once, and the focal loss keeps the easy ones quiet (Lin 2017, arXiv:1708.02002).

torchvision's modules under torchvision's names, so that its published weights load key for key. Two heads of 3x3 convolutions, which share
nothing with each other but are the same at every level of the pyramid. Ours are the cut into raw outputs, losses and prediction, and
`small`, a light variant with trainable normalisation that learns from scratch on a CPU.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.layers.anchors import Anchors
from cvtool.layers.fpn import Pyramid
from cvtool.layers.resnet import NarrowResNet
from cvtool.losses.focal import focal
from cvtool.models.detect._box_loss import BoxLoss
from cvtool.models.detect._one_stage import chosen, image_list, results, truths
from cvtool.results import Boxes
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models import resnet50
    from torchvision.models.detection import retinanet as tv
    from torchvision.models.detection._utils import BoxCoder, Matcher
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.ops import box_iou
    from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelP6P7
    from torchvision.ops.misc import FrozenBatchNorm2d

VARIANTS = {
    "resnet50": {"backbone": "resnet50", "box_loss": "l1"},
    "resnet50-v2": {"backbone": "resnet50-v2", "box_loss": "giou"},
    "small": {"backbone": "narrow", "box_loss": "giou", "box_weight": 2.0},
    "tiny": {"backbone": "narrow", "widths": (8, 16, 16, 24), "channels": 16, "depth": 1, "image_size": 64},
}
WEIGHTS = {
    "resnet50@coco": {
        "url": "https://download.pytorch.org/models/retinanet_resnet50_fpn_coco-eeacb38b.pth",
        "sha256": "eeacb38b",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train",
        "categories": "coco-91",
        "metrics": {"AP": 0.364},
    },
    "resnet50-v2@coco": {
        "url": "https://download.pytorch.org/models/retinanet_resnet50_fpn_v2_coco-5905b1c5.pth",
        "sha256": "5905b1c5",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train",
        "categories": "coco-91",
        "metrics": {"AP": 0.415},
    },
}
ALIASES = {"retinanet_resnet50_fpn": "resnet50", "retinanet_resnet50_fpn_v2": "resnet50-v2"}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 0.01,
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
            "augment": "flips,crop",
            "ema": 0.998,
            "channels_last": True,
        },
        "tiny": {"optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.01, "batch_size": 4, "epochs": 20, "schedule": "one-cycle", "augment": "flip"},
    },
}


class ExtraLevel(ExtraFPNBlock):
    """One coarser level by a 3x3 convolution of stride 2 over the coarsest: P6 of the paper, whose P7 small pictures have no room for."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 2, 1)

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        return [*results, self.conv(results[-1])], [*names, "p6"]


class RetinaNet(nn.Module):
    """The one-stage detector over any pyramid.

    backbone: B 3 H W -> maps by level. head: list of maps -> {"cls_logits": B N K, "bbox_regression": B N 4}, N anchors over all levels.
    box_loss: "smooth-l1" (the paper's, on the deltas, with `beta`), "l1" (on the deltas), "giou" or "iou" (on the boxes); see `BoxLoss`.
    box_weight: lambda, the box loss's part in the sum.
    """

    result = Boxes

    def __init__(self, backbone: nn.Module, head: nn.Module, anchors: Anchors, *, prepare: Prepare,
                 box_loss: str = "smooth-l1", beta: float = 1 / 9, box_weight: float = 1.0) -> None:  # fmt: skip
        super().__init__()
        self.backbone, self.head, self.anchor_generator = backbone, head, anchors
        self.box_loss, self.box_weight = BoxLoss(box_loss, beta=beta), box_weight
        self.coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))
        self.matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)
        self.prepare = prepare

    def forward(self, batch: Batch) -> dict[str, Any]:
        """A batch -> {"logits": B N K, "deltas": B N 4, "anchors": a list of N 4, "levels": the anchors of each level}."""
        features = list(self.backbone(batch.images).values())
        raw = self.head(features)
        anchors = self.anchor_generator(image_list(batch), features)
        counts = [f.shape[-2] * f.shape[-1] * k for f, k in zip(features, self.anchor_generator.num_anchors_per_location(), strict=True)]
        return {"logits": raw["cls_logits"].float(), "deltas": raw["bbox_regression"].float(), "anchors": anchors, "levels": counts}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """classifier: focal loss over all anchors but the undecided; box: over those of the foreground. Each per foreground anchor of its image."""
        raw = self.forward(batch)
        classifier, box = [], []
        for i, truth in enumerate(truths(batch, shift=0)):
            logits, wanted, found, matched = self.compared(raw["logits"][i], raw["anchors"][i], truth)
            count = max(1, len(found))
            classifier.append(focal(logits, wanted, reduction="sum") / count)
            box.append(self.box_losses(raw["deltas"][i][found], truth["boxes"][matched], raw["anchors"][i][found]) / count)
        return {"classifier": torch.stack(classifier).mean(), "box": self.box_weight * torch.stack(box).mean()}

    def examples(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """M K logits of all images' anchors that are decided, and what they should say: the classification's examples."""
        raw = self.forward(batch)
        each = [self.compared(raw["logits"][i], raw["anchors"][i], truth)[:2] for i, truth in enumerate(truths(batch, shift=0))]
        return torch.cat([logits for logits, _ in each]), torch.cat([wanted for _, wanted in each])

    def compared(self, logits: Tensor, anchors: Tensor, truth: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of one image: M K logits of the anchors that are decided, what they should say (0 or 1), the foreground anchors, and each one's box."""
        matched = self.match(truth["boxes"], anchors)
        found = torch.where(matched >= 0)[0]
        wanted = torch.zeros_like(logits)
        wanted[found, truth["labels"][matched[found]]] = 1.0
        decided = matched != Matcher.BETWEEN_THRESHOLDS
        return logits[decided], wanted[decided], found, matched[found]

    def match(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """For each anchor the index of its box (IoU >= 0.5, or the best anchor of a box), -1 for background (< 0.4), -2 for undecided."""
        if len(boxes) == 0:
            return anchors.new_full((len(anchors),), Matcher.BELOW_LOW_THRESHOLD, dtype=torch.int64)
        return self.matcher(box_iou(boxes, anchors))

    def box_losses(self, deltas: Tensor, boxes: Tensor, anchors: Tensor) -> Tensor:
        """The sum over N foreground anchors, N 4 each."""
        coder = self.coder
        return self.box_loss(deltas, boxes, encode=lambda b: coder.encode_single(b, anchors), decode=lambda d: coder.decode_single(d, anchors))

    def predict(self, batch: Batch, *, conf: float | None = None, iou: float | None = None, max_det: int | None = None) -> list[Boxes]:
        """Boxes above `conf` (default 0.05) after per-class suppression at `iou` (0.5), at most `max_det` (300) an image."""
        raw = self.forward(batch)
        by_level = {"cls_logits": raw["logits"].split(raw["levels"], 1), "bbox_regression": raw["deltas"].split(raw["levels"], 1)}
        anchors = [a.split(raw["levels"]) for a in raw["anchors"]]
        settings = chosen(conf, iou, max_det, defaults=(0.05, 0.5, 300))
        decoder = SimpleNamespace(box_coder=self.coder, topk_candidates=1000, **settings)  # values passed, not set on a model that threads share
        return results(batch, tv.RetinaNet.postprocess_detections(decoder, by_level, anchors, image_list(batch).image_sizes), shift=0)


def light_head(channels: int, *, anchors: int, classes: int, depth: int) -> tv.RetinaNetHead:
    """torchvision's heads with `depth` 3x3 convolutions each instead of four, group-normalised."""
    head = tv.RetinaNetHead(channels, anchors, classes, norm_layer=partial(nn.GroupNorm, channels // 8))
    for tower in (head.classification_head, head.regression_head):
        tower.conv = tower.conv[:depth]
    return head


def build(*, classes: int, backbone: str, box_loss: str = "smooth-l1", box_weight: float = 1.0, image_size: int | None = None,
          widths: tuple[int, ...] = (32, 64, 128, 256), channels: int = 96, depth: int = 2) -> RetinaNet:  # fmt: skip
    """`classes` outputs an anchor. The published sizes number them as COCO does (91, the first a hole)."""
    losses: dict[str, Any] = {"box_loss": box_loss, "box_weight": box_weight}
    if backbone == "narrow":
        # A third of an octave apart from three strides up: on a 416-pixel picture they span a platelet and a white cell.
        anchors = Anchors(tuple(tuple(3 * stride * 2 ** (i / 3) for i in range(3)) for stride in (8, 16, 32, 64)), ((0.6, 1.0, 1.6),) * 4)
        body = Pyramid(NarrowResNet(tuple(widths), returns=(1, 2, 3)), channels, extra=ExtraLevel(channels))
        head = light_head(channels, anchors=9, classes=classes, depth=depth)
        return RetinaNet(body, head, anchors, prepare=Prepare(resize="longest", size=image_size or 416, multiple_of=32), **losses)
    prepare = Prepare(resize="shortest", size=image_size or 800, max_size=1333, multiple_of=32, antialias=False)
    # The first recipe holds the normalisation constant, with an epsilon of zero.
    frozen = backbone == "resnet50"
    trunk = resnet50(weights=None, norm_layer=partial(FrozenBatchNorm2d, eps=0.0) if frozen else nn.BatchNorm2d)
    extra = LastLevelP6P7(256 if frozen else 2048, 256)
    body = _resnet_fpn_extractor(trunk, 5, returned_layers=[2, 3, 4], extra_blocks=extra)  # no P2: too many anchors
    head = tv.RetinaNetHead(256, 9, classes, norm_layer=None if frozen else partial(nn.GroupNorm, 32))
    sizes = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512))
    return RetinaNet(body, head, Anchors(sizes, ((0.5, 1.0, 2.0),) * 5), prepare=prepare, **losses)
