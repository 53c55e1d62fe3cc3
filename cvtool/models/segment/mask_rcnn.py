"""Mask R-CNN: Faster R-CNN with a third head that draws each object's pixels (He 2017, arXiv:1703.06870).

RoIAlign keeps the pixels in place, the mask has one channel a class, and the class is the box head's business alone: each channel is an
independent sigmoid and only the true class's channel is taught. `mask_loss="softmax"` lets the classes compete instead, the paper's
ablation (table 2b). The mask is m x m with m = 28 whatever the size of the RoI, and is pasted with the predicted box.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Place, Prepare
from cvtool.models.detect.faster_rcnn import FasterRCNN, parts, prepare_for
from cvtool.results import Boxes, Instances
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes
    from torchvision.ops import MultiScaleRoIAlign

VERBS = ("segment", "detect")
VARIANTS = {
    "resnet50": {"backbone": "resnet50"},
    "resnet50-v2": {"backbone": "resnet50-v2"},
    "small": {"backbone": "narrow", "widths": (32, 64, 128, 256), "image_size": 416, "mask_channels": 96},
    "tiny": {"backbone": "narrow", "widths": (8, 16, 16, 24), "channels": 16, "image_size": 64, "base_anchor": 8, "mask_channels": 16},
}
WEIGHTS = {
    "resnet50@coco": {
        "url": "https://download.pytorch.org/models/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        "sha256": "bf2d0c1e",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train",
        "categories": "coco",
        "metrics": {"AP": 0.379, "AP_mask": 0.346},
    },
    "resnet50-v2@coco": {
        "url": "https://download.pytorch.org/models/maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
        "sha256": "73cbd019",
        "licence": "BSD-3-Clause",
        "data": "COCO 2017 train",
        "categories": "coco",
        "metrics": {"AP": 0.474, "AP_mask": 0.418},
    },
}
ALIASES = {"maskrcnn": "", "maskrcnn_resnet50_fpn": "resnet50", "maskrcnn_resnet50_fpn_v2": "resnet50-v2"}
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


class MaskRCNN(FasterRCNN):
    """forward as Faster R-CNN's; `mask_logits` gives RoIs' N C+1 28 28 maps."""

    result = Instances
    needs = ("masks",)

    def __init__(
        self, backbone: nn.Module, *, classes: int, mask_channels: int = 256, mask_loss: str = "sigmoid", mask_norm=None, **rest: Any
    ) -> None:
        if mask_loss not in ("sigmoid", "softmax"):
            raise ValueError(f"mask_loss is sigmoid or softmax, not {mask_loss!r}")
        super().__init__(backbone, classes=classes, **rest)
        heads, width = self.roi_heads, mask_channels
        heads.mask_roi_pool = MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=14, sampling_ratio=2, canonical_scale=self.canonical_scale)
        heads.mask_head = MaskRCNNHeads(backbone.out_channels, [width] * 4, 1, norm_layer=mask_norm)
        heads.mask_predictor = MaskRCNNPredictor(width, width, classes + 1)
        self.mask_loss = mask_loss

    def mask_logits(self, features, boxes: list[Tensor], sizes) -> Tensor:
        """A list of N 4 boxes, one an image -> sum(N) C+1 28 28."""
        heads = self.roi_heads
        return heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, boxes, sizes))).float()

    def target(self, target: Boxes) -> dict[str, Tensor]:
        keep = ~target.crowd if target.crowd is not None else slice(None)
        masks = getattr(target, "masks", None)
        if masks is None:
            raise ValueError("mask-rcnn learns from masks, and these targets have none")
        return super().target(target) | {"masks": masks[keep]}

    def head_losses(self, features, sizes, proposals, matched, labels, targets) -> dict[str, Tensor]:
        positive = [torch.where(k > 0)[0] for k in labels]
        boxes = [p[i] for p, i in zip(proposals, positive, strict=True)]
        logits = self.mask_logits(features, boxes, sizes)
        if not len(logits):
            return {"mask": logits.sum() * 0}
        drawn = [
            project_masks_on_boxes(t["masks"].to(b), b, m[i], logits.shape[-1]) for t, b, m, i in zip(targets, boxes, matched, positive, strict=True)
        ]
        classes = torch.cat([k[i] for k, i in zip(labels, positive, strict=True)])
        return {"mask": mask_loss(logits, torch.cat(drawn), classes, kind=self.mask_loss)}

    def results(self, places: list[Place], features, sizes, boxes, scores, labels) -> list[Boxes]:
        logits = self.mask_logits(features, boxes, sizes)
        classes = torch.cat(labels)
        probabilities = (logits.softmax(1) if self.mask_loss == "softmax" else logits.sigmoid())[torch.arange(len(classes)), classes]
        found: list[Boxes] = []
        per_image = probabilities.split([len(b) for b in boxes])
        for place, mask, plain in zip(places, per_image, super().results(places, features, sizes, boxes, scores, labels), strict=True):
            found.append(Instances(plain.boxes, plain.labels, plain.scores, masks=paste(mask, plain.boxes, place)))
        return found


def mask_loss(logits: Tensor, drawn: Tensor, classes: Tensor, *, kind: str = "sigmoid") -> Tensor:
    """Mean loss over the pixels of N masks (He 2017, section 3).

    logits: N C+1 m m; drawn: N m m, the truth cut out by each RoI, in [0, 1]; classes: N, the true label 1..C (0 is the background).
    sigmoid: binary cross-entropy on the true class's channel; the others get no gradient. softmax: the C+1 channels compete at each pixel
    for the true class inside and the background outside.
    """
    if kind == "softmax":
        return F.cross_entropy(logits, torch.where(drawn >= 0.5, classes[:, None, None], 0))
    return F.binary_cross_entropy_with_logits(logits[torch.arange(len(classes), device=logits.device), classes], drawn)


def paste(masks: Tensor, boxes: Tensor, place: Place) -> Tensor:
    """N m m probabilities drawn into their N 4 boxes -> N H W bool over the original. One object at a time, so that memory holds one float map."""
    out = torch.zeros(len(masks), place.height, place.width, dtype=torch.bool, device=masks.device)
    for i in range(len(masks)):
        out[i] = paste_masks_in_image(masks[i : i + 1, None], boxes[i : i + 1], (place.height, place.width))[0, 0] >= 0.5
    return out


def build(
    *,
    classes: int,
    backbone: str,
    image_size: int = 800,
    max_size: int | None = 1333,
    mask_channels: int = 256,
    mask_loss: str = "sigmoid",
    box_loss: str = "smooth-l1",
    **sizes: Any,
) -> MaskRCNN:
    body, rpn, heads = parts(backbone, classes=classes, **sizes)
    prepare: Prepare = prepare_for(backbone, image_size, max_size)
    norm = nn.BatchNorm2d if backbone == "resnet50-v2" else None
    return MaskRCNN(body, classes=classes, prepare=prepare, rpn=rpn, heads=heads, mask_channels=mask_channels, mask_loss=mask_loss, mask_norm=norm,
                    box_loss=box_loss)  # fmt: skip
