"""FCOS: every point inside a box predicts its four sides, without anchors (Tian 2019, arXiv:1904.01355).

torchvision's modules under torchvision's names, so that its published weights load key for key; ours are the cut into raw outputs, losses
and prediction. A point is a square of the level's stride; its distances to the box's sides are in strides, and the centre-ness, learnt
beside them, lowers the score of boxes seen from their edge.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.layers.anchors import Anchors
from cvtool.layers.fpn import Pyramid
from cvtool.layers.resnet import NarrowResNet
from cvtool.models.detect._box_loss import BoxLoss
from cvtool.models.detect._one_stage import chosen, image_list, results, truths
from cvtool.results import Boxes
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models import resnet50
    from torchvision.models.detection import fcos as tv
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7
    from torchvision.ops.misc import FrozenBatchNorm2d

VARIANTS = {
    "resnet50": {"backbone": "resnet50"},
    "tiny": {"backbone": "narrow", "image_size": 64},
}
WEIGHTS = {
    "resnet50@coco": {
        "url": "https://download.pytorch.org/models/fcos_resnet50_fpn_coco-99b0c9b7.pth",
        "sha256": "99b0c9b7",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train",
        "categories": "coco-91",
        "metrics": {"AP": 0.392},
    },
}
ALIASES = {"fcos_resnet50_fpn": "resnet50"}
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
        "tiny": {"optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.01, "batch_size": 4, "epochs": 20, "schedule": "one-cycle", "augment": "flip"},
    },
}
STRIDES = (8, 16, 32, 64, 128)


class FCOS(nn.Module):
    """The anchor-free detector over a pyramid of strides 8 to 128.

    backbone: B 3 H W -> maps by level. head: list of maps -> {"cls_logits": B N K, "bbox_regression": B N 4, "bbox_ctrness": B N 1}.
    radius: a point teaches a box if it lies within so many strides of its centre (and its sides are in the level's range).
    box_loss: "giou", as the published weights were trained, "iou:log" (the paper's first version), "iou", "l1" or "smooth-l1"; see `BoxLoss`.
    """

    result = Boxes

    def __init__(self, backbone: nn.Module, head: tv.FCOSHead, *, prepare: Prepare, radius: float = 1.5, box_loss: str = "giou") -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.anchor_generator = Anchors(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES))
        self.radius, self.box_loss = radius, BoxLoss(box_loss)
        self.prepare = prepare

    def forward(self, batch: Batch) -> dict[str, Any]:
        """A batch -> {"logits": B N K, "sides": B N 4 in strides, "centreness": B N 1 logits, "points": a list of N 4, "levels": points a level}."""
        features = list(self.backbone(batch.images).values())
        raw = self.head(features)
        return {
            "logits": raw["cls_logits"].float(),
            "sides": raw["bbox_regression"].float(),
            "centreness": raw["bbox_ctrness"].float(),
            "points": self.anchor_generator(image_list(batch), features),
            "levels": [f.shape[-2] * f.shape[-1] for f in features],
        }

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """classifier: focal loss over all points; box: `box_loss`; centreness: cross-entropy. Each per foreground point."""
        raw, truth = self.forward(batch), truths(batch, shift=0)
        matched: list[Tensor] = []

        def keep(*given: Any) -> dict[str, Tensor]:
            matched.extend(given[-1])
            return self.head.compute_loss(*given)

        settings = SimpleNamespace(center_sampling_radius=self.radius, head=SimpleNamespace(compute_loss=keep))
        found = tv.FCOS.compute_loss(settings, truth, outputs(raw), raw["points"], raw["levels"])
        box = found["bbox_regression"] if self.box_loss.text == "giou" else self.box_losses(raw, truth, matched)
        return {"classifier": found["classification"], "box": box, "centreness": found["bbox_ctrness"]}

    def box_losses(self, raw: dict[str, Any], truth: list[dict[str, Tensor]], matched: list[Tensor]) -> Tensor:
        """`box_loss` of the foreground points, per one of them. matched: for each image's points the index of their box, -1 for none."""
        on = [m >= 0 for m in matched]
        sides = torch.cat([s[i] for s, i in zip(raw["sides"], on, strict=True)])
        points = torch.cat([p[i] for p, i in zip(raw["points"], on, strict=True)])
        boxes = torch.cat([t["boxes"][m[i]] for t, m, i in zip(truth, matched, on, strict=True)])
        coder = self.head.box_coder
        total = self.box_loss(sides, boxes, encode=lambda b: coder.encode(points, b), decode=lambda d: coder.decode(d, points))
        return total / max(1, len(points))

    def predict(self, batch: Batch, *, conf: float | None = None, iou: float | None = None, max_det: int | None = None) -> list[Boxes]:
        """Boxes with sqrt(class x centre-ness) above `conf` (default 0.2), suppressed per class at `iou` (0.6), at most `max_det` (100) an image."""
        raw = self.forward(batch)
        by_level = {name: values.split(raw["levels"], 1) for name, values in outputs(raw).items()}
        points = [p.split(raw["levels"]) for p in raw["points"]]
        decoder = SimpleNamespace(box_coder=self.head.box_coder, topk_candidates=1000, **chosen(conf, iou, max_det, defaults=(0.2, 0.6, 100)))
        return results(batch, tv.FCOS.postprocess_detections(decoder, by_level, points, image_list(batch).image_sizes), shift=0)


def outputs(raw: dict[str, Any]) -> dict[str, Tensor]:
    """The head's outputs under torchvision's names."""
    return {"cls_logits": raw["logits"], "bbox_regression": raw["sides"], "bbox_ctrness": raw["centreness"]}


def build(*, classes: int, backbone: str, image_size: int = 800, widths: tuple[int, ...] = (8, 16, 16, 24), channels: int = 64,
          depth: int = 1, box_loss: str = "giou") -> FCOS:  # fmt: skip
    """`classes` outputs a point. The published size numbers them as COCO does (91, the first a hole)."""
    if backbone == "narrow":
        body: nn.Module = Pyramid(NarrowResNet(tuple(widths), returns=(1, 2, 3)), channels, extra=LastLevelP6P7(channels, channels))
        return FCOS(body, tv.FCOSHead(channels, 1, classes, depth), prepare=Prepare(resize="longest", size=image_size, multiple_of=32),
                    box_loss=box_loss)  # fmt: skip
    trunk = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    body = _resnet_fpn_extractor(trunk, 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    prepare = Prepare(resize="shortest", size=image_size, max_size=image_size * 1333 // 800, multiple_of=32, antialias=False)
    return FCOS(body, tv.FCOSHead(256, 1, classes, 4), prepare=prepare, box_loss=box_loss)
