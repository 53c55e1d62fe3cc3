"""Boxes: formats, areas, overlaps, and the deltas by which a network moves an anchor onto an object.

Boxes are float tensors ... 4. xyxy: left, top, right, bottom; xywh: left, top, width, height (COCO's); cxcywh: centre, width, height.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000 / 16)  # a decoded side is at most 62.5 times its anchor's: exp must not overflow early in training


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack((x0, y0, x1 - x0, y1 - y0), dim=-1)


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    x, y, w, h = boxes.unbind(-1)
    return torch.stack((x, y, x + w, y + h), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack(((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0), dim=-1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), dim=-1)


def xywh_to_cxcywh(boxes: Tensor) -> Tensor:
    x, y, w, h = boxes.unbind(-1)
    return torch.stack((x + w / 2, y + h / 2, w, h), dim=-1)


def cxcywh_to_xywh(boxes: Tensor) -> Tensor:
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack((cx - w / 2, cy - h / 2, w, h), dim=-1)


def area(boxes: Tensor, *, inclusive: bool = False) -> Tensor:
    """... 4 xyxy -> ... square pixels. `inclusive`: corners are the first and last pixel of the box, so a side is one longer."""
    extra = 1 if inclusive else 0
    return (boxes[..., 2] - boxes[..., 0] + extra) * (boxes[..., 3] - boxes[..., 1] + extra)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """... 4 xyxy -> the part inside a picture of `size` (height, width)."""
    height, width = size
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def intersection(a: Tensor, b: Tensor, *, inclusive: bool = False) -> Tensor:
    """N 4 and M 4 xyxy -> N M square pixels that both cover."""
    sides = torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2]) + (1 if inclusive else 0)
    return sides.clamp(min=0).prod(dim=-1)


def iou(a: Tensor, b: Tensor, *, inclusive: bool = False) -> Tensor:
    """Intersection over union of every pair: N 4 and M 4 xyxy -> N M in [0, 1]; 0 where both boxes are empty.

    IoU = I / (A + B - I): from the sum of both areas the *intersection* is taken away, since it was counted twice, and that is the union. (A common
    misprint takes away the union.) inclusive: the older convention of VOC and of pixel-indexed boxes, where (0, 0, 9, 9) is ten pixels wide:
    iou((0, 0, 9, 9), (5, 5, 14, 14)) = 25 / 175, against 16 / 146 with continuous corners.
    """
    a, b = (boxes if boxes.is_floating_point() else boxes.float() for boxes in (a, b))
    both = intersection(a, b, inclusive=inclusive)
    union = area(a, inclusive=inclusive)[:, None] + area(b, inclusive=inclusive)[None] - both
    return both / torch.where(union > 0, union, torch.ones_like(union))


def paired_iou(a: Tensor, b: Tensor, *, inclusive: bool = False) -> Tensor:
    """IoU of each box of `a` with its partner in `b`: N 4 and N 4 xyxy -> N in [0, 1]; 0 where both are empty."""
    both, union = _paired(a, b, inclusive)
    return both / torch.where(union > 0, union, torch.ones_like(union))


def paired_giou(a: Tensor, b: Tensor, *, inclusive: bool = False) -> Tensor:
    """GIoU = IoU - |C \\ (A u B)| / |C| of each pair, C the smallest box around both: N 4 and N 4 xyxy -> N in [-1, 1].

    It is the IoU where the boxes fill C, and goes to -1 as they move apart (Rezatofighi 2019, arXiv:1902.09630, algorithm 1).
    """
    both, union = _paired(a, b, inclusive)
    around = area(torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], dim=-1), inclusive=inclusive)
    one = torch.ones_like(union)
    return both / torch.where(union > 0, union, one) - (around - union) / torch.where(around > 0, around, one)


def _paired(a: Tensor, b: Tensor, inclusive: bool) -> tuple[Tensor, Tensor]:
    """N 4 and N 4 -> intersection and union of each pair."""
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2]) + (1 if inclusive else 0)
    both = sides.clamp(min=0).prod(dim=-1)
    return both, area(a, inclusive=inclusive) + area(b, inclusive=inclusive) - both


def encode(boxes: Tensor, anchors: Tensor, weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """The deltas that move `anchors` onto `boxes`, N 4 xyxy both -> N 4 (R-CNN, arXiv:1311.2524, eq. 6-9; Faster R-CNN, eq. 2).

    t_x = w_x (x - x_a) / w_a, t_y likewise, t_w = w_w ln(w / w_a), t_h likewise, of centres and sides. Sides must be positive.
    """
    x, y, w, h = xyxy_to_cxcywh(boxes).unbind(-1)
    xa, ya, wa, ha = xyxy_to_cxcywh(anchors).unbind(-1)
    deltas = torch.stack(((x - xa) / wa, (y - ya) / ha, torch.log(w / wa), torch.log(h / ha)), dim=-1)
    return deltas * deltas.new_tensor(weights)


def decode(deltas: Tensor, anchors: Tensor, weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Anchors moved by deltas: N 4 and N 4 xyxy -> N 4 xyxy, not clipped (R-CNN, eq. 1-4): the inverse of `encode`.

    x = w_a t_x + x_a, w = w_a exp(t_w); t_w and t_h are cut off at ln(1000/16), as everywhere in the field.
    """
    xa, ya, wa, ha = xyxy_to_cxcywh(anchors).unbind(-1)
    dx, dy, dw, dh = (deltas / deltas.new_tensor(weights)).unbind(-1)
    w, h = wa * dw.clamp(max=MAX_LOG_SCALE).exp(), ha * dh.clamp(max=MAX_LOG_SCALE).exp()
    return cxcywh_to_xyxy(torch.stack((dx * wa + xa, dy * ha + ya, w, h), dim=-1))
