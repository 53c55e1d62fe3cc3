"""Hard negative mining: of the anchors without an object, those that a detector takes most for one (Felzenszwalb 2010; Shrivastava 2016,
arXiv:1604.03540, section 4, for the suppression of those that lie on each other)."""

from __future__ import annotations

import torch
from torch import Tensor

from cvtool.ops.nms import nms


def hard_negatives(losses: Tensor, negative: Tensor, count: int, boxes: Tensor | None = None, *, iou: float = 1.0) -> Tensor:
    """The `count` negatives of the highest loss, hardest first, as indices; fewer where there are fewer.

    losses: N; negative: N bool; boxes: N 4 xyxy. Below 1, `iou` drops a negative that overlaps a harder one by more than that, before the count.
    Negatives are looked at from the hardest down, and none beyond what the count needs: a worse one never drops a better one.
    """
    found = negative.nonzero()[:, 0]
    order = found[losses[found].detach().argsort(descending=True, stable=True)]
    if boxes is None or iou >= 1:
        return order[:count]
    seen = max(1, 4 * count)
    while True:
        some = order[:seen]
        # ranks in place of losses: NMS must not order those of equal loss by itself
        kept = some[nms(boxes[some], torch.arange(len(some), 0, -1, dtype=boxes.dtype, device=boxes.device), iou)]
        if len(kept) >= count or seen >= len(order):
            return kept[:count]
        seen *= 4
