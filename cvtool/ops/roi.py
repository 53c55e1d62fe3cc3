"""Regions of a feature map as squares of equal size: RoIPool (Girshick 2015, arXiv:1504.08083) and RoIAlign (He 2017, arXiv:1703.06870).

Plain torch, differentiable in the features on any device, equal to torchvision's compiled operators; besides the mean, RoIAlign can take the maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

AT_ONCE = 1 << 24  # values gathered at a time


def roi_pool(features: Tensor, boxes: Sequence[Tensor], size: int | tuple[int, int], scale: float) -> Tensor:
    """The maximum of each bin of each box. B C H W, for each image K_i 4 xyxy in the picture's pixels -> sum(K_i) C h w, `size` = (h, w).

    `scale` is features per pixel (1/16 for stride 16). Corners are rounded to whole features and the last one belongs to the box, so (0, 0, 13, 13)
    covers 14 x 14 features and becomes 7 x 7 by 2 x 2 maxima; the bins are rounded outwards again, and where they are empty give zero.
    """
    rows, cols = _pair(size)
    owners, corners = _flatten(features, boxes)
    snapped = _snap(corners, scale)
    y0, y1 = _bins(snapped[:, 1], snapped[:, 3], rows, features.shape[2])  # K h
    x0, x1 = _bins(snapped[:, 0], snapped[:, 2], cols, features.shape[3])  # K w
    deep, wide = (max(1, int((last - first).max())) if len(owners) else 1 for first, last in ((y0, y1), (x0, x1)))
    several = max(1, AT_ONCE // max(1, features.shape[1] * rows * deep * max(features.shape[3], cols * wide)))
    pooled = [features.new_zeros(0, features.shape[1], rows, cols)]
    for part in torch.arange(len(owners), device=features.device).split(several):
        some = features[owners[part]]  # K C H W
        tall = _strips(some, y0[part], y1[part], deep, axis=2)  # K C h W: the maximum over a bin's rows
        pooled.append(_strips(tall, x0[part], x1[part], wide, axis=3))  # K C h w: then over its columns
    out = torch.cat(pooled)
    empty = ((y1 <= y0)[:, :, None] | (x1 <= x0)[:, None, :])[:, None]
    return out.masked_fill(empty, 0)


def roi_pool_bins(box: Sequence[float], scale: float, size: int | tuple[int, int]) -> tuple[list[int], list[list[int]], list[list[int]]]:
    """RoIPool's two roundings of one xyxy box, for drawing: (the snapped box, the rows of bins, the columns of bins), all in features.

    The snapped box is [x0, y0, x1, y1] with its end excluded; a bin is [first, end excluded]. Neighbouring bins may share features.
    """
    rows, cols = _pair(size)
    x0, y0, x1, y1 = _snap(torch.tensor([list(box)], dtype=torch.float32), scale)[0].tolist()
    edges = [
        torch.stack(_bins(torch.tensor([first]), torch.tensor([last]), count, None), dim=-1)[0].tolist()
        for first, last, count in ((y0, y1, rows), (x0, x1, cols))
    ]
    return [x0, y0, max(x1, x0) + 1, max(y1, y0) + 1], edges[0], edges[1]


def roi_align(
    features: Tensor,
    boxes: Sequence[Tensor],
    size: int | tuple[int, int],
    scale: float,
    sampling_ratio: int = -1,
    aligned: bool = False,
    mode: Literal["avg", "max"] = "avg",
) -> Tensor:
    """Each bin of each box as the mean (or maximum) of bilinear samples; nothing is rounded, so a linear ramp is sampled exactly.

    Shapes as in `roi_pool`. sampling_ratio: samples along each side of a bin; below 1, as many as the bin has features, rounded up, for each box.
    aligned: False is the first publication's (and torchvision's default), which puts pixel centres on whole numbers, half a pixel off, and makes
    boxes at least one feature wide; True takes that half off. Samples more than one feature outside the map are zero.
    """
    if mode not in ("avg", "max"):
        raise ValueError(f"mode is avg or max, not {mode!r}")
    rows, cols = _pair(size)
    owners, corners = _flatten(features, boxes)
    corners = corners.to(features.dtype) * scale - (0.5 if aligned else 0.0)
    start, extent = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if not aligned:
        extent = extent.clamp(min=1)
    y, y_there = _samples(start[:, 1], extent[:, 1], rows, sampling_ratio)  # K h S
    x, x_there = _samples(start[:, 0], extent[:, 0], cols, sampling_ratio)  # K w T
    there = y_there[:, :, None, :, None] & x_there[:, None, :, None, :]  # K h w S T
    maps = features.permute(0, 2, 3, 1).contiguous()  # B H W C: the channels of a place lie together
    several = max(1, AT_ONCE // max(1, features.shape[1] * y[0].numel() * x[0].numel())) if len(owners) else 1
    found = [features.new_zeros(0, rows, cols, features.shape[1])]
    for part in torch.arange(len(owners), device=features.device).split(several):
        values = _bilinear(maps, owners[part], y[part], x[part])  # K h w S T C
        used = there[part][..., None]
        if mode == "max":
            found.append(values.masked_fill(~used, -torch.inf).amax(dim=(3, 4)))
        else:
            found.append((values * used).sum(dim=(3, 4)) / used.sum(dim=(3, 4)).clamp(min=1))
    return torch.cat(found).permute(0, 3, 1, 2)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _flatten(features: Tensor, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """All boxes in one tensor, and the image of each."""
    if len(boxes) != len(features):
        raise ValueError(f"{len(features)} images and boxes of {len(boxes)}")
    counts = torch.tensor([len(b) for b in boxes], device=features.device)
    corners = torch.cat([b.reshape(-1, 4) for b in boxes]).to(features.device)
    return torch.repeat_interleave(torch.arange(len(boxes), device=features.device), counts), corners


def _snap(corners: Tensor, scale: float) -> Tensor:
    """The first rounding: K 4 corners to whole features, halves away from zero as in C."""
    scaled = corners * scale
    return (scaled.sign() * (scaled.abs() + 0.5).floor()).long()


def _bins(first: Tensor, last: Tensor, count: int, limit: int | None) -> tuple[Tensor, Tensor]:
    """The second rounding: K first and last features -> K count starts and ends (excluded) of overlapping bins, cut off at the map's `limit`.

    In float32 like the published operator, whose outermost bins may for that reason reach one feature too far.
    """
    step = (last - first + 1).clamp(min=1).float()[:, None] / count
    number = torch.arange(count, device=first.device, dtype=torch.float32)
    start, end = (number * step).floor().long() + first[:, None], ((number + 1) * step).ceil().long() + first[:, None]
    return (start, end) if limit is None else (start.clamp(0, limit), end.clamp(0, limit))


def _strips(maps: Tensor, first: Tensor, end: Tensor, most: int, *, axis: int) -> Tensor:
    """The maximum over [first, end) along one axis: K C H W and K n -> K C n W (axis 2) or K C H n (axis 3)."""
    at = first[:, :, None] + torch.arange(most, device=first.device)  # K n m
    inside = at < end[:, :, None]
    at = at.clamp(max=maps.shape[axis] - 1)
    if axis == 3:
        return _strips(maps.transpose(2, 3), first, end, most, axis=2).transpose(2, 3)
    owner = torch.arange(len(maps), device=maps.device)[:, None, None]
    strips = maps.transpose(1, 2)[owner, at]  # K n m C W
    return strips.masked_fill(~inside[..., None, None], -torch.inf).max(dim=2).values.transpose(1, 2)


def _samples(start: Tensor, extent: Tensor, bins: int, ratio: int) -> tuple[Tensor, Tensor]:
    """Places of the samples along one axis, K bins S, and which of them count (boxes may have different numbers of them)."""
    step = extent / bins
    number = torch.full_like(step, ratio) if ratio > 0 else step.ceil()
    most = max(1, int(number.max())) if len(start) else 1
    one = torch.arange(most, device=start.device, dtype=start.dtype)
    within = (one + 0.5) * (step / number.clamp(min=1))[:, None]  # K S
    places = start[:, None, None] + torch.arange(bins, device=start.device, dtype=start.dtype)[:, None] * step[:, None, None] + within[:, None]
    return places, (one < number[:, None])[:, None].expand_as(places)


def _bilinear(maps: Tensor, owners: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """B H W C sampled at (y, x): K h S and K w T -> K h w S T C."""

    def taps(at: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        inside = (at >= -1) & (at <= size)
        at = at.clamp(min=0, max=size - 1)
        low = at.floor().long().clamp(max=size - 1)
        return low, (low + 1).clamp(max=size - 1), at - low, inside

    (y0, y1, v, y_in), (x0, x1, u, x_in) = taps(y, maps.shape[1]), taps(x, maps.shape[2])
    owner = owners[:, None, None, None, None]

    def rows(index: Tensor) -> Tensor:
        return index[:, :, None, :, None]

    def cols(index: Tensor) -> Tensor:
        return index[:, None, :, None, :]

    v, u = rows(v)[..., None], cols(u)[..., None]
    above = maps[owner, rows(y0), cols(x0)] * (1 - u) + maps[owner, rows(y0), cols(x1)] * u
    below = maps[owner, rows(y1), cols(x0)] * (1 - u) + maps[owner, rows(y1), cols(x1)] * u
    return (above * (1 - v) + below * v) * (rows(y_in) & cols(x_in))[..., None]
