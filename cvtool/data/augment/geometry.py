"""Moves of a picture together with its truth: mirrored, cut out, put on a canvas, resized, or through any affine map.

Pixel x of a row covers [x, x + 1): boxes are stated in that continuous measure, keypoints name pixels (their centre lies at x + 0.5). Mirrors and
windows are views of the pixels; nothing here writes into what it is given, for it may be a cached picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cvtool.batch import IGNORE, tensor_of
from cvtool.results import Boxes, Instances, Quads, Result, SemanticMap

Pair = tuple[np.ndarray, Result]  # pixels H W 3 uint8; targets in their pixels
FILL = 114  # grey outside the picture
WHOLE = 0.8  # a region of text of which less than this part stays in the picture need not be found
LEAST = 0.25  # an object of which less than this part stays in the picture is left out (`warp`)


def moved(
    target: Result, boxes: Callable[[Tensor], Tensor], points: Callable[[Tensor], Tensor], dense: Callable[[Tensor, int], Tensor],
    corners: Callable[[Tensor], Tensor],
) -> Result:  # fmt: skip
    """A target whose boxes (N 4), keypoints (N K 3), maps (... H W; the number is what stands outside) and regions (N 4 2) went through these."""
    if isinstance(target, Quads):
        return replace(target, quads=corners(target.quads))
    if isinstance(target, Boxes):
        changes: dict[str, Any] = {"boxes": boxes(target.boxes)}
        if isinstance(target, Instances):
            if target.masks is not None:
                changes["masks"] = dense(target.masks, 0)
            if target.keypoints is not None:
                changes["keypoints"] = points(target.keypoints)
        return replace(target, **changes)
    if isinstance(target, SemanticMap):
        weights = None if target.weights is None else dense(target.weights, 0)
        return replace(target, labels=dense(target.labels, IGNORE), weights=weights)
    return target


def contiguous(pixels: np.ndarray) -> np.ndarray:
    """The same pixels in order. Numpy copies a mirrored picture pixel by pixel, in ten times torch's time."""
    if pixels.strides[1] >= 0 or pixels.size < 1 << 16:
        return np.ascontiguousarray(pixels)
    forward = tensor_of(np.ascontiguousarray(pixels[:, ::-1]))
    return forward.permute(2, 0, 1)[None].flip(-1).permute(0, 2, 3, 1)[0].numpy()


def image_of(pixels: np.ndarray) -> Image.Image:
    """As Pillow has it."""
    return Image.fromarray(contiguous(pixels))


def mirror(pixels: np.ndarray, target: Result, swap: Sequence[int] | None = None) -> Pair:
    """Left and right exchanged. Keypoint (pixel) x goes to W - 1 - x, and `swap` says which point is which afterwards (left eye, right eye)."""
    width = pixels.shape[1]

    def points(k: Tensor) -> Tensor:
        k = k[:, swap] if swap is not None else k.clone()  # N K 3
        k[..., 0] = torch.where(k[..., 2] > 0, width - 1 - k[..., 0], k[..., 0])
        return k

    def boxes(b: Tensor) -> Tensor:
        return torch.stack([width - b[:, 2], b[:, 1], width - b[:, 0], b[:, 3]], 1)

    def corners(q: Tensor) -> Tensor:
        return torch.stack([width - q[..., 0], q[..., 1]], -1)[:, [1, 0, 3, 2]]  # clockwise again

    return pixels[:, ::-1], moved(target, boxes, points, lambda m, _: m.flip(-1), corners)


def turn_over(pixels: np.ndarray, target: Result) -> Pair:
    """Top and bottom exchanged; for pictures without an up and down (cells, aerial views)."""
    height = pixels.shape[0]

    def points(k: Tensor) -> Tensor:
        k = k.clone()
        k[..., 1] = torch.where(k[..., 2] > 0, height - 1 - k[..., 1], k[..., 1])
        return k

    def boxes(b: Tensor) -> Tensor:
        return torch.stack([b[:, 0], height - b[:, 3], b[:, 2], height - b[:, 1]], 1)

    def corners(q: Tensor) -> Tensor:
        return torch.stack([q[..., 0], height - q[..., 1]], -1)[:, [3, 2, 1, 0]]

    return pixels[::-1], moved(target, boxes, points, lambda m, _: m.flip(-2), corners)


def window(pixels: np.ndarray, target: Result, left: int, top: int, right: int, bottom: int) -> Pair:
    """The picture cut to [left, right) x [top, bottom). Boxes whose centre stays are kept and clipped, keypoints outside become unlabelled; regions
    of text keep their corners, and those of which much is cut off need not be found."""
    if isinstance(target, Quads):
        target = _seen(target, left, top, right, bottom)
    if isinstance(target, Boxes):
        centre = (target.boxes[:, :2] + target.boxes[:, 2:]) / 2
        target = target[((centre >= centre.new_tensor([left, top])) & (centre < centre.new_tensor([right, bottom]))).all(1)]

    def boxes(b: Tensor) -> Tensor:
        return clipped(b - b.new_tensor([left, top] * 2), right - left, bottom - top)

    def points(k: Tensor) -> Tensor:
        return _labelled(k - k.new_tensor([left, top, 0]), k[..., 2] > 0, right - left, bottom - top)

    def corners(q: Tensor) -> Tensor:
        return q - q.new_tensor([left, top])

    return pixels[top:bottom, left:right], moved(target, boxes, points, lambda m, _: m[..., top:bottom, left:right], corners)


def canvas(pixels: np.ndarray, target: Result, height: int, width: int, top: int, left: int, fill: int = FILL) -> Pair:
    """The picture at (left, top) of a plain `height` x `width`."""
    rows, cols = pixels.shape[:2]
    out = np.full((height, width, 3), fill, np.uint8)
    out[top : top + rows, left : left + cols] = pixels

    def dense(maps: Tensor, outside: int) -> Tensor:
        wide = maps.new_full((*maps.shape[:-2], height, width), outside)
        wide[..., top : top + rows, left : left + cols] = maps
        return wide

    def points(k: Tensor) -> Tensor:
        return torch.where(k[..., 2:] > 0, k + k.new_tensor([left, top, 0]), k)

    return out, moved(target, lambda b: b + b.new_tensor([left, top] * 2), points, dense, lambda q: q + q.new_tensor([left, top]))


def shifted(pixels: np.ndarray, target: Result, down: int, right: int, fill: int = FILL) -> Pair:
    """The picture moved by whole pixels in a frame of the same size; what left it is cut as by `window`, what came in is plain."""
    height, width = pixels.shape[:2]
    down, right = max(-height, min(height, down)), max(-width, min(width, right))
    cut, kept = window(pixels, target, max(0, -right), max(0, -down), width - max(0, right), height - max(0, down))
    return canvas(cut, kept, height, width, max(0, down), max(0, right), fill)


def resized(pixels: np.ndarray, target: Result, height: int, width: int) -> Pair:
    """The picture in another size: pixels bilinear (averaged where it shrinks), maps by nearest neighbour."""
    rows, cols = pixels.shape[:2]
    if (rows, cols) == (height, width):
        return pixels, target
    factor = torch.tensor([width / cols, height / rows])
    out = np.asarray(image_of(pixels).resize((width, height), Image.Resampling.BILINEAR))

    def points(k: Tensor) -> Tensor:
        return torch.where(k[..., 2:] > 0, torch.cat([(k[..., :2] + 0.5) * factor - 0.5, k[..., 2:]], -1), k)

    def dense(maps: Tensor, _: int) -> Tensor:
        small = (maps if maps.is_floating_point() else maps.to(torch.uint8)).reshape(1, -1, rows, cols)
        if not small.numel():
            return maps.new_zeros(*maps.shape[:-2], height, width)
        return F.interpolate(small, size=(height, width), mode="nearest-exact").reshape(*maps.shape[:-2], height, width).to(maps.dtype)

    return out, moved(target, lambda b: b * factor.repeat(2), points, dense, lambda q: q * factor)


def warp(pixels: np.ndarray, target: Result, matrix: np.ndarray, fill: int = FILL) -> Pair:
    """The picture through the affine map `matrix` (2 x 3: where a place (x, y, 1) of it goes), in a frame of the same size.

    Pixels are bilinear, maps nearest neighbour. A box becomes the tight box of its mask where it has one, else of its four corners, clipped to
    the frame; an object of whose area (the mask's, else that box's) less than `LEAST` stays inside is left out.
    """
    height, width = pixels.shape[:2]
    full = np.vstack([matrix, [0, 0, 1]])
    back = np.linalg.inv(full)[:2]
    source = image_of(pixels)
    out = np.asarray(
        source.transform((width, height), Image.Transform.AFFINE, back.ravel().tolist(), Image.Resampling.BILINEAR, fillcolor=(fill,) * 3)
    )
    if isinstance(target, SemanticMap):
        frame = (0, 0, width, height)
        labels = torch.from_numpy(_transformed(target.labels.numpy().astype(np.uint8), back, frame, IGNORE).astype(np.int64))
        weights = None if target.weights is None else torch.from_numpy(_transformed(target.weights.numpy(), back, frame, 0).copy())
        return out, replace(target, labels=labels, weights=weights)
    linear, offset = torch.from_numpy(full[:2, :2]).float(), torch.from_numpy(full[:2, 2]).float()
    if isinstance(target, Quads):
        return out, _seen(replace(target, quads=target.quads @ linear.T + offset), 0, 0, width, height)
    if not isinstance(target, Boxes):
        return out, target
    b = target.boxes
    corners = torch.stack([b[:, [0, 1]], b[:, [2, 1]], b[:, [2, 3]], b[:, [0, 3]]], 1) @ linear.T + offset  # N 4 2
    hull = torch.cat([corners.amin(1), corners.amax(1)], 1)
    boxes = clipped(hull, width, height)
    whole, left = _area(hull), _area(boxes)
    changes: dict[str, Any] = {}
    if isinstance(target, Instances):
        if target.masks is not None:
            changes["masks"], tight = _warped_masks(target.masks, boxes, back)
            whole, boxes, left = _counts(target.masks) * abs(np.linalg.det(full[:2, :2])), tight, _counts(changes["masks"])
        if target.keypoints is not None:
            k = target.keypoints
            there = torch.cat([(k[..., :2] + 0.5) @ linear.T + offset - 0.5, k[..., 2:]], -1)
            changes["keypoints"] = _labelled(there, k[..., 2] > 0, width, height)
    return out, replace(target, boxes=boxes, **changes)[(left >= LEAST * whole) & (left > 0)]


def _seen(target: Quads, left: int, top: int, right: int, bottom: int) -> Quads:
    """Those regions of which something lies in the frame; one of which less than `WHOLE` does need not be found, for its end cannot be seen."""
    low, high = target.quads.amin(1), target.quads.amax(1)
    frame = low.new_tensor([[left, top], [right, bottom]])
    inside = (high.minimum(frame[1]) - low.maximum(frame[0])).clamp(min=0).prod(1)
    share = inside / (high - low).prod(1).clamp(min=1e-6)
    cut = share < WHOLE
    return replace(target, spared=cut if target.spared is None else target.spared | cut)[share > 0]


def clipped(boxes: Tensor, width: int, height: int) -> Tensor:
    """N 4 xyxy inside [0, width] x [0, height]."""
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height] * 2))


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def _counts(masks: Tensor) -> Tensor:
    """N: the pixels of each mask."""
    return torch.tensor([np.count_nonzero(mask) for mask in masks.numpy()], dtype=torch.float32)


def _labelled(points: Tensor, known: Tensor, width: int, height: int) -> Tensor:
    """N K 3 with zeros for points that were not labelled or lie outside the frame."""
    x, y = points[..., 0], points[..., 1]
    inside = (x > -0.5) & (y > -0.5) & (x < width - 0.5) & (y < height - 0.5)
    return points.masked_fill(~(inside & known)[..., None], 0)


def _transformed(values: np.ndarray, back: np.ndarray, frame: tuple[int, int, int, int], fill: int) -> np.ndarray:
    """h w: the part `frame` (left, top, right, bottom) of a map H W (uint8 or float32) whose places come from `back` (2 x 3) of theirs."""
    left, top, right, bottom = frame
    there = back.copy()
    there[:, 2] += back[:, :2] @ [left, top]
    size = right - left, bottom - top
    image = Image.fromarray(np.ascontiguousarray(values))
    return np.asarray(image.transform(size, Image.Transform.AFFINE, there.ravel().tolist(), Image.Resampling.NEAREST, fillcolor=fill))


def _warped_masks(masks: Tensor, boxes: Tensor, back: np.ndarray) -> tuple[Tensor, Tensor]:
    """N H W bool and their tight boxes N 4; each is looked up only inside its box (N 4, clipped), for most objects are small."""
    height, width = masks.shape[-2:]
    out = np.zeros(masks.shape, bool)
    tight = np.zeros((len(masks), 4), np.float32)
    frames = np.concatenate([np.floor(boxes[:, :2].numpy()) - 1, np.ceil(boxes[:, 2:].numpy()) + 1], 1).astype(int)
    frames = frames.clip(0, [width, height, width, height])
    for i, (left, top, right, bottom) in enumerate(frames.tolist()):
        if right <= left or bottom <= top:
            continue
        part = _transformed(masks[i].numpy().view(np.uint8), back, (left, top, right, bottom), 0)
        out[i, top:bottom, left:right] = part
        rows, cols = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        if len(rows):
            tight[i] = left + cols[0], top + rows[0], left + cols[-1] + 1, top + rows[-1] + 1
    return torch.from_numpy(out), torch.from_numpy(tight)
