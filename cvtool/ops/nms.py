"""Greedy non-maximum suppression: of boxes that show the same object, the best stays."""

from __future__ import annotations

import torch
from torch import Tensor

from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.ops.boxes import batched_nms
    from torchvision.ops.boxes import nms as greedy_nms


def nms(boxes: Tensor, scores: Tensor, iou: float = 0.5, *, labels: Tensor | None = None) -> Tensor:
    """Indices of the boxes that stay, best first. N 4 xyxy, N scores -> K int64.

    From the highest score down, a box stays unless it overlaps one that stayed by more than `iou` (exactly `iou` is allowed). With `labels` (N int),
    boxes of different classes never touch. Equal scores are taken in the order given. Half precision is compared as float32.
    """
    if labels is None:
        return greedy_nms(boxes.float(), scores.float(), iou)
    return batched_nms(boxes.float(), scores.float(), labels, iou)


def top(scores: Tensor, count: int) -> Tensor:
    """Indices of the `count` highest scores, best first, equal ones in the order given: N -> min(count, N) int64."""
    return torch.sort(scores, descending=True, stable=True).indices[:count]
