"""What the one-stage detectors share: the batch in torchvision's words, and its boxes back in the pictures' own pixels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cvtool.batch import Batch
from cvtool.results import Boxes
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models.detection.image_list import ImageList


def image_list(batch: Batch) -> ImageList:
    """The images with their sizes before padding: what anchors are laid over and boxes are clipped to."""
    return ImageList(batch.images, [(place.inner_height, place.inner_width) for place in batch.places])


def truths(batch: Batch, *, shift: int) -> list[dict[str, Tensor]]:
    """Each image's truth, labels raised by `shift` (1 where the network's class 0 is the background). Crowds and empty boxes teach nothing."""
    found = []
    for target in batch.targets or []:
        keep = (target.boxes[:, 2:] > target.boxes[:, :2]).all(dim=1)
        if target.crowd is not None:
            keep &= ~target.crowd
        found.append({"boxes": target.boxes[keep].float(), "labels": target.labels[keep].long() + shift})
    return found


def results(batch: Batch, detections: list[dict[str, Tensor]], *, shift: int) -> list[Boxes]:
    """torchvision's detections in the batch's pixels -> typed results in the originals', labels lowered by `shift`."""
    return [Boxes(p.boxes_back(d["boxes"]), d["labels"] - shift, d["scores"]) for p, d in zip(batch.places, detections, strict=True)]


def chosen(conf: float | None, iou: float | None, max_det: int | None, *, defaults: tuple[float, float, int]) -> dict[str, Any]:
    """The three thresholds under torchvision's names, each the caller's or the paper's."""
    values = [own if own is not None else default for own, default in zip((conf, iou, max_det), defaults, strict=True)]
    return dict(zip(("score_thresh", "nms_thresh", "detections_per_img"), values, strict=True))
