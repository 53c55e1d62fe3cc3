"""IoU loss: a box is one thing, not four numbers, and what is missing of its overlap is lost (Yu 2016, arXiv:1608.01471)."""

from __future__ import annotations

import torch
from torch import Tensor

from cvtool.errors import UsageError
from cvtool.losses._reduce import reduced
from cvtool.ops.boxes import paired_iou

KINDS = ("boxes",)


def iou(prediction: Tensor, target: Tensor, *, form: str = "linear", inclusive: bool = False, reduction: str = "mean") -> Tensor:
    """1 - IoU ("linear") or -ln IoU ("log", the paper's eq. 1) of each pair of boxes, N 4 xyxy each; "mean", "sum" or "none" over the boxes.

    Boxes that do not touch have no gradient: IoU is 0 wherever they are (`giou` tells them apart). The logarithm is cut off at IoU = 1e-6.
    inclusive: corners are a box's first and last pixel, so that sides are one longer (see `ops.boxes.iou`).
    """
    overlap = paired_iou(prediction, target, inclusive=inclusive)
    if form not in ("linear", "log"):
        raise UsageError(f"form of iou is linear or log, not '{form}'")
    return reduced(1 - overlap if form == "linear" else -overlap.clamp(min=1e-6).log(), reduction)


def check(*, form: str, **others: object) -> None:
    """Raises UsageError for a form that there is not."""
    iou(torch.zeros(0, 4), torch.zeros(0, 4), form=form)
