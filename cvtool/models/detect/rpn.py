"""RPN: a small network slides over the features and proposes boxes, object or not, around anchors (Ren 2015, arXiv:1506.01497).

Written out in full: anchors, labels, the sampled batch, both losses, and the way from raw outputs to boxes. A 3x3 convolution of stride 1 (a seed
text's "stride 0" is a misprint) is followed by two 1x1 convolutions, one for the scores and one for the deltas of the k anchors of a place.
`one-stage` scores classes instead of objectness, which makes a detector of it. torchvision's own stands inside `faster-rcnn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Place, Prepare
from cvtool.categories import Categories
from cvtool.layers.resnet import NarrowResNet
from cvtool.losses.smooth_l1 import smooth_l1
from cvtool.models.detect._one_stage import truths
from cvtool.ops.anchors import cell_anchors, grid_anchors
from cvtool.ops.boxes import clip, decode, encode, iou
from cvtool.ops.nms import nms, top
from cvtool.results import Boxes
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models import vgg16

VARIANTS = {
    "small": {"backbone": "narrow", "sizes": (24, 64, 128)},
    "one-stage": {"backbone": "narrow", "sizes": (24, 64, 128), "one_stage": True},
    "vgg16": {"backbone": "vgg16", "hidden": 512, "image_size": 600},
    "tiny": {"backbone": "narrow", "widths": (8, 16, 24), "sizes": (12, 24, 48), "hidden": 32, "image_size": 64},
}
WEIGHTS: dict[str, Any] = {}
RECIPE = {
    "step": "supervised",
    "optimizer": "sgd",
    "lr": 1e-3,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "batch_size": 1,
    "epochs": 12,
    "schedule": "step",
    "augment": "flip",
    "variants": {
        "small": {
            "optimizer": "adamw",
            "lr": 1e-3,
            "weight_decay": 0.02,
            "batch_size": 4,
            "epochs": 30,
            "schedule": "one-cycle",
            "augment": "flips,crop",
        },
        "one-stage": {
            "optimizer": "adamw",
            "lr": 1e-3,
            "weight_decay": 0.02,
            "batch_size": 4,
            "epochs": 40,
            "schedule": "one-cycle",
            "augment": "flips,crop",
        },
        "tiny": {"optimizer": "adamw", "lr": 3e-3, "weight_decay": 0.01, "batch_size": 4, "epochs": 20, "schedule": "one-cycle", "augment": "flip"},
    },
}

NEGATIVE, POSITIVE, IGNORED = 0, 1, -1


def label_anchors(anchors: Tensor, truth: Tensor, *, low: float = 0.3, high: float = 0.7) -> tuple[Tensor, Tensor]:
    """What each anchor should learn (section 3.1.2). N 4 and M 4 xyxy -> (N labels, N index of the true box it overlaps most).

    Positive: IoU >= `high` with any true box, or the highest of all with one (ties too), so that no box goes without. Negative: IoU < `low` with
    every one. The rest is ignored. Without true boxes all are negative.
    """
    if len(truth) == 0:
        return torch.full((len(anchors),), NEGATIVE, device=anchors.device), torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
    overlap = iou(anchors, truth)  # N M
    most, matched = overlap.max(dim=1)
    labels = torch.full_like(matched, IGNORED)
    labels[most < low] = NEGATIVE
    labels[most >= high] = POSITIVE
    best = overlap.max(dim=0).values  # M
    anchor, box = torch.where((overlap == best) & (best > 0))
    labels[anchor], matched[anchor] = POSITIVE, box
    return labels, matched


def sample_anchors(labels: Tensor, count: int = 256, *, share: float = 0.5) -> Tensor:
    """A random batch of at most `count` anchors: positives up to a `share` of it, and negatives for all the rest. N labels -> indices."""
    positive, negative = torch.where(labels == POSITIVE)[0], torch.where(labels == NEGATIVE)[0]
    positive = positive[torch.randperm(len(positive), device=labels.device)[: int(count * share)]]
    negative = negative[torch.randperm(len(negative), device=labels.device)[: count - len(positive)]]
    return torch.cat((positive, negative))


class Head(nn.Module):
    """B C h w -> scores B h*w*k `outputs` and deltas B h*w*k 4, place by place, anchor by anchor, as `grid_anchors` lays them."""

    def __init__(self, channels: int, *, anchors: int, outputs: int = 2, hidden: int = 256) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, hidden, 3, stride=1, padding=1)
        self.scores = nn.Conv2d(hidden, anchors * outputs, 1)  # 2k: background and object
        self.deltas = nn.Conv2d(hidden, anchors * 4, 1)  # 4k
        for layer in (self.conv, self.scores, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.outputs = outputs

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.conv(features))
        scores = self.scores(x).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, self.outputs))
        return scores, self.deltas(x).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4))


class RPN(nn.Module):
    """The network on one feature map.

    backbone: B 3 H W -> B channels H/stride W/stride. sizes (pixels), ratios (height / width): of the anchors. classes: 0 for objectness, which
    makes all categories one ("object"); else the scores are those of a background and of each class. samples: anchors a picture in the losses.
    before, after: proposals kept by score before and after suppression.
    """

    result = Boxes
    cell: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        channels: int,
        *,
        stride: int,
        prepare: Prepare,
        sizes: Sequence[float] = (128, 256, 512),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        classes: int = 0,
        hidden: int = 256,
        samples: int = 256,
        before: int = 2000,
        after: int = 300,
    ) -> None:
        super().__init__()
        self.backbone, self.stride, self.prepare = backbone, stride, prepare
        self.merges_categories = None if classes else "object"
        self.register_buffer("cell", cell_anchors(sizes, ratios), persistent=False)  # k 4
        self.head = Head(channels, anchors=len(self.cell), outputs=(classes or 1) + 1, hidden=hidden)
        self.samples, self.before, self.after = samples, before, after
        self._categories: Categories = []

    @property
    def categories(self) -> Categories:
        """Those it was trained for; without classes of its own there is one."""
        return [{"id": 1, "name": self.merges_categories}] if self.merges_categories else self._categories

    @categories.setter
    def categories(self, categories: Categories) -> None:
        self._categories = list(categories)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """A batch -> {"scores": B N 2 (or 1 + classes), logits, background first; "deltas": B N 4; "anchors": N 4 xyxy}."""
        features = self.backbone(batch.images)
        scores, deltas = self.head(features)
        anchors = grid_anchors(self.cell, (features.shape[-2], features.shape[-1]), (self.stride, self.stride))
        return {"scores": scores.float(), "deltas": deltas.float(), "anchors": anchors}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """objectness: cross-entropy of the sampled anchors; box: smooth L1 of the positive ones' deltas, per sampled anchor (eq. 1).

        The mean over all anchors with the weight of ten in eq. 1 comes to about the same. beta = 1/9 is that of the authors' code.
        """
        raw = self.forward(batch)
        objectness, box = [], []
        for scores, deltas, place, target in zip(raw["scores"], raw["deltas"], batch.places, truths(batch, shift=1), strict=True):
            truth = target["boxes"]
            labels, matched = label_anchors(raw["anchors"], truth)
            labels[~self.stands_in(raw["anchors"], place)] = IGNORED
            chosen = sample_anchors(labels, self.samples)
            positive = chosen[labels[chosen] == POSITIVE]
            wanted = torch.zeros(len(labels), dtype=torch.int64, device=labels.device)
            wanted[positive] = 1 if self.merges_categories else target["labels"][matched[positive]]
            objectness.append(F.cross_entropy(scores[chosen], wanted[chosen]))
            aim = encode(truth[matched[positive]], raw["anchors"][positive])
            box.append(smooth_l1(deltas[positive], aim, beta=1 / 9, reduction="sum") / max(1, len(chosen)))
        return {"objectness": torch.stack(objectness).mean(), "box": torch.stack(box).mean()}

    def predict(self, batch: Batch, *, conf: float | None = None, iou: float | None = None, max_det: int | None = None) -> list[Boxes]:
        """Anchors moved by their deltas and clipped, the best by score, then greedy suppression at `iou`.

        Objectness: every score counts unless `conf` is given, `iou` is 0.7, at most 300 boxes. Classes: `conf` 0.05, `iou` 0.5 class by class.
        """
        raw = self.forward(batch)
        probability = raw["scores"].softmax(dim=-1)[..., 1:]  # B N K
        least = conf if conf is not None else 0.0 if self.merges_categories else 0.05
        overlap = iou if iou is not None else 0.7 if self.merges_categories else 0.5
        most = max_det if max_det is not None else self.after
        found = []
        for scores, deltas, place in zip(probability, raw["deltas"], batch.places, strict=True):
            there = self.stands_in(raw["anchors"], place)
            anchor, label = torch.where((scores > least) & there[:, None])
            best = top(scores[anchor, label], self.before)
            anchor, label = anchor[best], label[best]
            values, boxes = scores[anchor, label], clip(decode(deltas[anchor], raw["anchors"][anchor]), (place.inner_height, place.inner_width))
            solid = (boxes[:, 2:] > boxes[:, :2] + 1).all(dim=1)  # what is clipped to a sliver proposes nothing
            boxes, label, values = boxes[solid], label[solid], values[solid]
            kept = nms(boxes, values, overlap, labels=label)[:most]
            found.append(Boxes(place.boxes_back(boxes[kept]), label[kept], values[kept]))
        return found

    @staticmethod
    def stands_in(anchors: Tensor, place: Place) -> Tensor:
        """Which anchors are centred on the picture, rather than on what pads it to the batch's size."""
        centre = (anchors[:, :2] + anchors[:, 2:]) / 2
        return (centre < centre.new_tensor([place.inner_width, place.inner_height])).all(dim=1)


class OneMap(nn.Module):
    """The last map of a backbone that returns several."""

    def __init__(self, body: NarrowResNet) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return list(self.body(x).values())[-1]


def build(
    *, classes: int, backbone: str, image_size: int = 416, widths: tuple[int, ...] = (32, 64, 128), one_stage: bool = False, **head: Any
) -> RPN:
    """`narrow`: three stages of a light residual network, stride 16. `vgg16`: the paper's, up to its last convolution, on pictures 600 high."""
    head["classes"] = classes if one_stage else 0
    if backbone == "vgg16":
        prepare = Prepare(resize="shortest", size=image_size, max_size=round(image_size / 0.6), multiple_of=16)
        return RPN(vgg16(weights=None).features[:-1], 512, stride=16, prepare=prepare, **head)
    body = NarrowResNet(tuple(widths), blocks=(2,) * len(widths), returns=(len(widths) - 1,))
    prepare = Prepare(resize="longest", size=image_size, multiple_of=32)
    return RPN(OneMap(body), widths[-1], stride=2 ** (len(widths) + 1), prepare=prepare, **head)
