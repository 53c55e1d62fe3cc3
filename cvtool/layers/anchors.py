"""torchvision's anchors and default boxes, laid in float32 whatever the features' precision.

torchvision lays them in the features' own type. Under automatic mixed precision that is bfloat16 or float16, whose steps near 400 are 2 and
0.25 pixels: boxes would be matched to, and decoded from, anchors that stand beside their place (and the rounded sizes would stay).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator


def _shapes(maps: list[Tensor]) -> list[Tensor]:
    """Float32 stand-ins that take no memory: only shape, type and device are read."""
    return [m.new_empty((), dtype=torch.float32).expand(m.shape) for m in maps]


class Anchors(AnchorGenerator):
    """forward: an ImageList of B images and their maps -> B tensors, N 4 xyxy in the batch's pixels."""

    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Tensor]:
        return super().forward(image_list, _shapes(feature_maps))


class DefaultBoxes(DefaultBoxGenerator):
    """SSD's: the same, with sizes and places as fractions of the image."""

    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Tensor]:
        return super().forward(image_list, _shapes(feature_maps))
