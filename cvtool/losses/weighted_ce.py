"""Weighted cross-entropy: each pixel counts as much as a map says, most where objects nearly touch (Ronneberger 2015, arXiv:1505.04597)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from cvtool.batch import IGNORE

KINDS = ("semantic",)
BESIDE = ("weights",)


def weighted_ce(logits: Tensor, target: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """E = sum_x w(x) * -ln p_target(x) (eq. 1, which prints it without its minus sign) over the number of labelled pixels.

    logits: B K H W; target: B H W int64, 255 = does not count; weights: B H W float, >= 0 (`SemanticMap.weights`). With w = 1 everywhere it is
    the plain cross-entropy. Raises ValueError without weights.
    """
    if weights is None:
        raise ValueError("weighted-ce reads a weight for each pixel, and the targets have none")
    surprise = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")  # B H W, 0 where 255
    return (weights * surprise).sum() / (target != IGNORE).sum().clamp(min=1)


def border_weights(instances: Any, *, w0: float = 10.0, sigma: float = 5.0, w_class: float = 1.0) -> np.ndarray:
    """w(x) = w_class + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) of the pixels outside objects, w_class inside them (eq. 2): H W float32.

    instances: H W whole numbers, 0 = no object, else the object's number. d1, d2: distances in pixels to the nearest and the second nearest
    object. Objects that adjoin are taken `apart` first. Beyond d1 + d2 = 6 sigma the second term, below 2e-7, is left out.
    """
    from scipy.ndimage import distance_transform_edt, find_objects

    objects = apart(instances)
    weights = np.full(objects.shape, w_class, np.float32)
    reach = int(np.ceil(6 * sigma))
    if np.count_nonzero(np.unique(objects)) < 2:
        return weights
    first, where = distance_transform_edt(objects == 0, return_indices=True)  # H W; 2 H W: where the nearest object is
    nearest = objects[tuple(where)]
    for number, place in enumerate(find_objects(objects), 1):
        if place is None:
            continue
        near = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in place)  # no pixel outside has both objects within reach
        own = (objects[near] == 0) & (nearest[near] == number) & (first[near] <= reach)
        others = (objects[near] != 0) & (objects[near] != number)
        if others.any() and own.any():
            total = first[near][own] + distance_transform_edt(~others)[own]
            weights[near][own] += np.where(total <= 6 * sigma, w0 * np.exp(-(total**2) / (2 * sigma**2)), 0).astype(np.float32)
    return weights


def apart(instances: Any) -> np.ndarray:
    """The objects without the pixels at which they meet: those with one of another object among their eight neighbours become 0. H W int32."""
    objects = np.asarray(instances).astype(np.int32)
    wide = np.pad(objects, 1)
    meets = np.zeros(objects.shape, bool)
    height, width = objects.shape
    for dy in range(3):
        for dx in range(3):
            other = wide[dy : dy + height, dx : dx + width]
            meets |= (other != 0) & (other != objects)
    return np.where(meets, 0, objects)
