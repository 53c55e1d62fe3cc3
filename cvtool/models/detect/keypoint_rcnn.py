"""Keypoint R-CNN: Mask R-CNN whose masks are one-hot, one a keypoint of a person (He 2017, arXiv:1703.06870, section 5).

Each of K keypoints is one lit pixel in a 56 x 56 map; the loss is a softmax over the map's pixels, on visible keypoints only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cvtool.batch import Place
from cvtool.models.detect.faster_rcnn import FasterRCNN, parts, prepare_for
from cvtool.results import Boxes, Instances
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
    from torchvision.models.detection.roi_heads import keypointrcnn_inference, keypointrcnn_loss
    from torchvision.ops import MultiScaleRoIAlign

VARIANTS = {
    "resnet50": {"backbone": "resnet50"},
    "small": {"backbone": "narrow", "widths": (32, 64, 128, 256), "image_size": 416, "keypoint_channels": (96, 96, 96, 96)},
    "tiny": {"backbone": "narrow", "widths": (8, 16, 16, 24), "channels": 16, "image_size": 64, "base_anchor": 8, "keypoint_channels": (16, 16)},
}
WEIGHTS = {
    "resnet50@coco": {
        "url": "https://download.pytorch.org/models/keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
        "sha256": "fc266e95",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train, persons",
        "categories": "coco-person",
        "metrics": {"AP": 0.546, "AP_keypoints": 0.650},
    },
    "resnet50@coco-legacy": {
        "url": "https://download.pytorch.org/models/keypointrcnn_resnet50_fpn_coco-9f466800.pth",
        "sha256": "9f466800",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train, persons",
        "categories": "coco-person",
        "metrics": {"AP": 0.506, "AP_keypoints": 0.611},
    },
}
ALIASES = {"keypointrcnn": "", "keypointrcnn_resnet50_fpn": "resnet50"}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 0.02,
    "weight_decay": 1e-4,
    "batch_size": 16,
    "epochs": 46,
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
            "augment": "flip",
        },
        "tiny": {"optimizer": "adamw", "lr": 2e-3, "weight_decay": 0.01, "batch_size": 4, "epochs": 20, "schedule": "one-cycle", "augment": "flip"},
    },
}


class KeypointRCNN(FasterRCNN):
    """forward as Faster R-CNN's; `keypoint_logits` gives RoIs' N K 56 56 maps."""

    result = Instances
    needs = ("keypoints",)

    def __init__(
        self, backbone: nn.Module, *, classes: int, keypoints: int = 17, keypoint_channels: tuple[int, ...] = (512,) * 8, **rest: Any
    ) -> None:
        super().__init__(backbone, classes=classes, **rest)
        heads = self.roi_heads
        heads.keypoint_roi_pool = MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=14, sampling_ratio=2, canonical_scale=self.canonical_scale)
        heads.keypoint_head = KeypointRCNNHeads(backbone.out_channels, tuple(keypoint_channels))
        heads.keypoint_predictor = KeypointRCNNPredictor(keypoint_channels[-1], keypoints)

    def keypoint_logits(self, features, boxes: list[Tensor], sizes) -> Tensor:
        """A list of N 4 boxes, one an image -> sum(N) K 56 56."""
        heads = self.roi_heads
        logits = heads.keypoint_predictor(heads.keypoint_head(heads.keypoint_roi_pool(features, boxes, sizes)))
        return logits.float().contiguous()  # torchvision's loss takes views of it, which channels_last does not allow

    def target(self, target: Boxes) -> dict[str, Tensor]:
        keep = ~target.crowd if target.crowd is not None else slice(None)
        points = getattr(target, "keypoints", None)
        if points is None:
            raise ValueError("keypoint-rcnn learns from keypoints, and these targets have none")
        return super().target(target) | {"keypoints": points[keep]}

    def head_losses(self, features, sizes, proposals, matched, labels, targets) -> dict[str, Tensor]:
        positive = [torch.where(k > 0)[0] for k in labels]
        boxes = [p[i] for p, i in zip(proposals, positive, strict=True)]
        logits = self.keypoint_logits(features, boxes, sizes)
        matches = [m[i] for m, i in zip(matched, positive, strict=True)]
        return {"keypoint": keypointrcnn_loss(logits, boxes, [t["keypoints"] for t in targets], matches)}

    def results(self, places: list[Place], features, sizes, boxes, scores, labels) -> list[Boxes]:
        points, point_scores = keypointrcnn_inference(self.keypoint_logits(features, boxes, sizes), boxes)
        plain = super().results(places, features, sizes, boxes, scores, labels)
        return [
            Instances(r.boxes, r.labels, r.scores, keypoints=place.keypoints_back(k), keypoint_scores=s)
            for place, r, k, s in zip(places, plain, points, point_scores, strict=True)
        ]


def build(
    *,
    classes: int,
    backbone: str,
    keypoints: int = 17,
    image_size: int = 800,
    max_size: int | None = 1333,
    keypoint_channels: tuple[int, ...] = (512,) * 8,
    box_loss: str = "smooth-l1",
    **sizes: Any,
) -> KeypointRCNN:
    body, rpn, heads = parts(backbone, classes=classes, **sizes)
    prepare = prepare_for(backbone, image_size, max_size)
    return KeypointRCNN(body, classes=classes, prepare=prepare, rpn=rpn, heads=heads, keypoints=keypoints, keypoint_channels=keypoint_channels,
                        box_loss=box_loss)  # fmt: skip
