"""Augmentations of a picture and its truth, drawn once for both: `pipeline("flips,crop,color")`.

Made for the training loop of a busy CPU: pixels stay uint8, flips and crops are views, colour is one 3 x 4 matrix, and nothing resizes, because
`Prepare` does that once afterwards. Randomness comes from the generator that is passed in, never from global state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from cvtool.errors import UsageError, did_you_mean
from cvtool.results import Boxes, Instances, Result, SemanticMap

Pair = tuple[np.ndarray, Result]  # pixels H W 3 uint8; targets in their pixels
Pipeline = Callable[[np.ndarray, Result, np.random.Generator], Pair]
FILL = 114  # grey outside the picture
IGNORE = 255


def mirror(pixels: np.ndarray, target: Result, swap: Sequence[int] | None = None) -> Pair:
    """Left and right exchanged. Keypoint (pixel) x goes to W - 1 - x, and `swap` says which point is which afterwards (left eye, right eye)."""
    width = pixels.shape[1]
    if isinstance(target, Boxes):
        b = target.boxes
        changes: dict[str, Any] = {"boxes": torch.stack([width - b[:, 2], b[:, 1], width - b[:, 0], b[:, 3]], 1)}
        if isinstance(target, Instances):
            if target.masks is not None:
                changes["masks"] = target.masks.flip(-1)
            if target.keypoints is not None:
                k = target.keypoints[:, swap] if swap is not None else target.keypoints.clone()  # N K 3
                k[..., 0] = torch.where(k[..., 2] > 0, width - 1 - k[..., 0], k[..., 0])
                changes["keypoints"] = k
        target = replace(target, **changes)
    elif isinstance(target, SemanticMap):
        target = replace(target, labels=target.labels.flip(-1))
    return pixels[:, ::-1], target


def turn_over(pixels: np.ndarray, target: Result) -> Pair:
    """Top and bottom exchanged; for pictures without an up and down (cells, aerial views)."""
    height = pixels.shape[0]
    if isinstance(target, Boxes):
        b = target.boxes
        changes: dict[str, Any] = {"boxes": torch.stack([b[:, 0], height - b[:, 3], b[:, 2], height - b[:, 1]], 1)}
        if isinstance(target, Instances):
            if target.masks is not None:
                changes["masks"] = target.masks.flip(-2)
            if target.keypoints is not None:
                k = target.keypoints.clone()
                k[..., 1] = torch.where(k[..., 2] > 0, height - 1 - k[..., 1], k[..., 1])
                changes["keypoints"] = k
        target = replace(target, **changes)
    elif isinstance(target, SemanticMap):
        target = replace(target, labels=target.labels.flip(-2))
    return pixels[::-1], target


def window(pixels: np.ndarray, target: Result, left: int, top: int, right: int, bottom: int) -> Pair:
    """The picture cut to [left, right) x [top, bottom). Boxes whose centre stays are kept and clipped, keypoints outside become unlabelled."""
    if isinstance(target, Boxes):
        b = target.boxes
        centre = (b[:, :2] + b[:, 2:]) / 2
        inside = ((centre >= centre.new_tensor([left, top])) & (centre < centre.new_tensor([right, bottom]))).all(1)
        target = target[inside]
        b = target.boxes - b.new_tensor([left, top] * 2)
        changes: dict[str, Any] = {"boxes": b.clamp(min=0).minimum(b.new_tensor([right - left, bottom - top] * 2))}
        if isinstance(target, Instances):
            if target.masks is not None:
                changes["masks"] = target.masks[:, top:bottom, left:right]
            if target.keypoints is not None:
                k = target.keypoints - target.keypoints.new_tensor([left, top, 0])
                out = (k[..., :2] < 0).any(-1) | (k[..., 0] > right - left - 1) | (k[..., 1] > bottom - top - 1)
                changes["keypoints"] = k.masked_fill((out | (k[..., 2] <= 0))[..., None], 0)
        target = replace(target, **changes)
    elif isinstance(target, SemanticMap):
        target = replace(target, labels=target.labels[top:bottom, left:right])
    return pixels[top:bottom, left:right], target


def canvas(pixels: np.ndarray, target: Result, height: int, width: int, top: int, left: int) -> Pair:
    """The picture at (left, top) of a grey `height` x `width`."""
    rows, cols = pixels.shape[:2]
    out = np.full((height, width, 3), FILL, np.uint8)
    out[top : top + rows, left : left + cols] = pixels
    if isinstance(target, Boxes):
        changes: dict[str, Any] = {"boxes": target.boxes + target.boxes.new_tensor([left, top] * 2)}
        if isinstance(target, Instances):
            if target.masks is not None:
                masks = target.masks.new_zeros(len(target.masks), height, width)
                masks[:, top : top + rows, left : left + cols] = target.masks
                changes["masks"] = masks
            if target.keypoints is not None:
                shift = target.keypoints.new_tensor([left, top, 0])
                changes["keypoints"] = torch.where(target.keypoints[..., 2:] > 0, target.keypoints + shift, target.keypoints)
        target = replace(target, **changes)
    elif isinstance(target, SemanticMap):
        labels = target.labels.new_full((height, width), IGNORE)
        labels[top : top + rows, left : left + cols] = target.labels
        target = replace(target, labels=labels)
    return out, target


def recolour(pixels: np.ndarray, brightness: float, contrast: float, saturation: float, tint: Sequence[float] | np.ndarray) -> np.ndarray:
    """H W 3 uint8: each factor 1 changes nothing. Contrast turns about the picture's mean, saturation about each pixel's luma (ITU-R 601)."""
    luma = np.array([0.299, 0.587, 0.114])
    mean = pixels[::8, ::8].reshape(-1, 3).mean(0) @ luma
    mix = saturation * np.eye(3) + (1 - saturation) * luma  # each row: what goes into one channel
    matrix = np.asarray(tint)[:, None] * mix * brightness * contrast
    offset = mean * brightness * (1 - contrast)
    rows = np.concatenate([matrix, np.full((3, 1), offset)], 1)
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB", tuple(rows.ravel().tolist())))


class _Flip:
    def __init__(self, swap: Sequence[int] | None) -> None:
        self.swap = swap

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        return mirror(pixels, target, self.swap) if rng.random() < 0.5 else (pixels, target)


class _Flips(_Flip):
    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        pixels, target = super().__call__(pixels, target, rng)
        return turn_over(pixels, target) if rng.random() < 0.5 else (pixels, target)


def crop(pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
    """In six of ten cases a window of 0.6 to 1 of each side, anywhere; skipped where no object would be left."""
    scale, x, y = rng.uniform(0.6, 1), rng.random(), rng.random()
    if rng.random() >= 0.6:
        return pixels, target
    height, width = pixels.shape[:2]
    rows, cols = max(1, int(height * scale)), max(1, int(width * scale))
    top, left = int(y * (height - rows + 1)), int(x * (width - cols + 1))
    cut, kept = window(pixels, target, left, top, left + cols, top + rows)
    if isinstance(kept, Boxes) and isinstance(target, Boxes) and len(target) and not len(kept):
        return pixels, target
    return cut, kept


def scale(pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
    """In half of the cases the picture stands anywhere on a grey canvas of up to 1.6 times its sides, so that its objects come out smaller."""
    factor, x, y = rng.uniform(1, 1.6), rng.random(), rng.random()
    if rng.random() >= 0.5:
        return pixels, target
    height, width = pixels.shape[:2]
    rows, cols = int(height * factor), int(width * factor)
    return canvas(pixels, target, rows, cols, int(y * (rows - height + 1)), int(x * (cols - width + 1)))


def color(pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
    """Brightness, contrast, saturation within 30 % and each channel within 6 %, in eight of ten cases."""
    brightness, contrast, saturation = rng.uniform(0.7, 1.3, 3)
    tint = rng.uniform(0.94, 1.06, 3)
    return (recolour(pixels, brightness, contrast, saturation, tint), target) if rng.random() < 0.8 else (pixels, target)


AUGMENTATIONS: dict[str, Callable[[Sequence[int] | None], Pipeline] | None] = {
    "none": None,
    "flip": _Flip,
    "flips": _Flips,
    "crop": lambda swap: crop,
    "scale": lambda swap: scale,
    "color": lambda swap: color,
}


class _Chain:
    def __init__(self, parts: list[Pipeline]) -> None:
        self.parts = parts

    def __call__(self, pixels: np.ndarray, target: Result, rng: np.random.Generator) -> Pair:
        for part in self.parts:
            pixels, target = part(pixels, target, rng)
        return np.ascontiguousarray(pixels), target


def pipeline(text: str, *, swap: Sequence[int] | None = None) -> Pipeline:
    """Names joined by commas, applied in that order. `swap`: the keypoints' new order after a left-right flip (see `swapped`).

    Raises UsageError with the right names for a wrong one.
    """
    parts = []
    for name in filter(None, (part.strip().lower() for part in text.split(","))):
        if name not in AUGMENTATIONS:
            hint = did_you_mean(name, AUGMENTATIONS) or "augmentations: " + ", ".join(AUGMENTATIONS)
            raise UsageError(f"unknown augmentation '{name}'", hint=hint)
        if (make := AUGMENTATIONS[name]) is not None:
            parts.append(make(swap))
    return _Chain(parts)


def swapped(names: Sequence[str]) -> list[int]:
    """The order of keypoints after a left-right flip: `left_x` and `right_x` change places, the others stay."""
    other = {"left": "right", "right": "left"}

    def partner(name: str) -> str:
        side, _, rest = name.partition("_")
        return f"{other[side]}_{rest}" if side in other else name

    return [names.index(partner(name)) if partner(name) in names else i for i, name in enumerate(names)]
