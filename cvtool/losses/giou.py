"""Generalised IoU loss: boxes that do not touch are told how far apart they are (Rezatofighi 2019, arXiv:1902.09630)."""

from __future__ import annotations

from torch import Tensor

from cvtool.losses._reduce import reduced
from cvtool.ops.boxes import paired_giou

KINDS = ("boxes",)


def giou(prediction: Tensor, target: Tensor, *, inclusive: bool = False, reduction: str = "mean") -> Tensor:
    """1 - GIoU of each pair of boxes, N 4 xyxy each, in [0, 2] (algorithm 1); "mean", "sum" or "none" over the boxes.

    inclusive: corners are a box's first and last pixel (see `ops.boxes.iou`).
    """
    return reduced(1 - paired_giou(prediction, target, inclusive=inclusive), reduction)
