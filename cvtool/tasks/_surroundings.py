"""What of a picture a model that fills holes is shown: all of it, a part around each hole, or windows one after the other.

| the model | the picture | what it is shown |
| --- | --- | --- |
| takes any size | not too large for it | all of it |
| takes any size | larger, or `tile` is given | windows of its largest side, or of `tile`, in the picture's own pixels |
| takes squares of one size | without `tile` | around each hole a square twice as large, at least of that size, shrunk to it |
| takes squares of one size | `tile` is given | windows of `tile` pixels, shrunk or enlarged to that size |

A window is laid so that its hole has a quarter of the window before it, and only what is filled in its middle is kept, so that the next window sees
it with what is around it. In all of them what was filled before counts as known. The hole itself is 0 when a model is shown it. A sketch, lines
that shall be in the hole, is cut along.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool.tasks._tiling import Window

Fill = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def fill(pixels: np.ndarray, hole: np.ndarray, model: Any, show: Fill, *, tile: int | None = None, sketch: np.ndarray | None = None) -> np.ndarray:
    """H W 3 uint8 with the hole (H W bool) filled, elsewhere as it was. show: 1 3 h w, 1 1 h w bool and the sketch, 1 1 h w bool where there is one
    (H W bool) -> 1 3 h w in [0, 1]."""
    height, width = hole.shape
    prepare = model.prepare
    size = None if prepare.resize is None else int(prepare.size)
    largest = getattr(model, "largest", None)
    side = tile
    if side is None and size is None and largest is not None and height * width > largest:
        side = math.isqrt(largest)
    picture, left = pixels.copy(), hole.copy()
    if size is None and (side is None or side >= max(height, width)):
        _shown(picture, left, left.copy(), Window(0, 0, width, height), None, prepare.multiple_of, show, sketch)
        return picture
    while left.any():
        window, kept = _next(left, side) if side is not None else _around(left, size or 0)
        _shown(picture, left, kept, window, size, prepare.multiple_of, show, sketch)
    return picture


def _next(left: np.ndarray, side: int) -> tuple[Window, np.ndarray]:
    """A window of `side` for the first part of the hole that is left, and which of it is kept, h w bool."""
    height, width = left.shape
    top = int(left.any(1).argmax())
    columns = np.flatnonzero(left[top : top + side // 2].any(0))
    window = Window(_placed(int(columns[0]) - side // 4, side, width), _placed(top - side // 4, side, height), min(side, width), min(side, height))
    kept = window.cut(left).copy()
    margin = max(1, side // 8)
    if window.top + window.height < height:
        kept[-margin:] = False
    if window.left + window.width < width:
        kept[:, -margin:] = False
    if window.left > 0:
        kept[:, :margin] = False
    return window, kept


def _around(left: np.ndarray, size: int) -> tuple[Window, np.ndarray]:
    """A window around the first of the holes, and which holes in it are kept: those that lie in it whole, with an eighth around them."""
    from scipy.ndimage import find_objects, label

    height, width = left.shape
    parts, _ = label(left, np.ones((3, 3), int))
    boxes = find_objects(parts)
    rows, columns = boxes[0]
    side = max(size, 2 * max(rows.stop - rows.start, columns.stop - columns.start))
    middle = (columns.start + columns.stop) // 2, (rows.start + rows.stop) // 2
    window = Window(_placed(middle[0] - side // 2, side, width), _placed(middle[1] - side // 2, side, height), min(side, width), min(side, height))
    margin = side // 8
    inner = (
        window.top + margin * (window.top > 0), window.top + window.height - margin * (window.top + window.height < height),
        window.left + margin * (window.left > 0), window.left + window.width - margin * (window.left + window.width < width),
    )  # fmt: skip
    whole = [
        number
        for number, (r, c) in enumerate(boxes, 1)
        if number == 1 or (r.start >= inner[0] and r.stop <= inner[1] and c.start >= inner[2] and c.stop <= inner[3])
    ]
    return window, np.isin(window.cut(parts), whole)


def _placed(start: int, side: int, length: int) -> int:
    return max(0, min(start, length - side))


def _shown(
    picture: np.ndarray,
    left: np.ndarray,
    kept: np.ndarray,
    window: Window,
    size: int | None,
    step: int,
    show: Fill,
    sketch: np.ndarray | None,
) -> None:
    """Fill `kept` (h w bool) of a window, in place, and take it from what is left."""
    part, hole = window.cut(picture), window.cut(left)
    images = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1)[None].float() / 255
    masks = torch.from_numpy(np.ascontiguousarray(hole))[None, None]
    images = images * ~masks
    high, wide = hole.shape
    below, right = (max(high, wide) - side if size is not None else -side % step for side in (high, wide))
    if below or right:
        images = F.pad(images, (0, right, 0, below), mode="replicate")
        masks = F.pad(masks.float(), (0, right, 0, below), mode="replicate") > 0
    square = images.shape[2:]
    if size is not None and square[0] != size:
        images, masks = _scaled(images, masks, size)
    made = show(images, masks, None if sketch is None else _lines(window.cut(sketch), square, images.shape[2:])).float()
    if made.shape[2:] != square:
        made = F.interpolate(made, size=square, mode="bicubic", align_corners=False, antialias=True)
    filled = (made[0, :, :high, :wide].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    part[kept] = filled[kept]
    hole[kept] = False


def _lines(sketch: np.ndarray, padded: torch.Size, size: torch.Size) -> Tensor:
    """h w bool as 1 1 H W bool of the size that is shown, `padded` before it is scaled; a line that becomes thinner than a pixel stays one."""
    lines = torch.from_numpy(np.ascontiguousarray(sketch))[None, None].float()
    lines = F.pad(lines, (0, padded[1] - sketch.shape[1], 0, padded[0] - sketch.shape[0]))
    return (F.adaptive_max_pool2d(lines, size) if padded[0] > size[0] else F.interpolate(lines, size=size)) > 0


def _scaled(images: Tensor, masks: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A square of another size: the known pixels' mean, so that the black of the hole does not bleed; hole where any of it is."""
    known = (~masks).float()
    how: dict[str, Any] = {"size": (size, size), "mode": "bilinear", "align_corners": False, "antialias": True}
    share = F.interpolate(known, **how)
    hole = share < 0.999
    return (F.interpolate(images * known, **how) / share.clamp_min(1e-3)).clamp(0, 1) * ~hole, hole
