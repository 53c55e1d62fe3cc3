"""Jaderberg's box regression: a crop of twice the proposal's size, and a network that says where in it the word is (arXiv:1412.1842, section 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.results import Quads
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision.ops import roi_align

INFLATION = 2.0
CROP = (32, 100)
OWN = (0.25, 0.25, 0.75, 0.75)  # where the proposal lies in its crop
MOVE, RESIZE = 0.25, 0.3  # by which true boxes are moved, as shares of their sides, and resized, in logarithms, to make proposals


def inflated(boxes: Tensor) -> Tensor:
    """N 4 xyxy -> boxes of the same middle, INFLATION times as wide and as high."""
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * INFLATION
    return torch.cat([middle - half, middle + half], 1)


def bounds(quads: Tensor) -> Tensor:
    """N 4 2 -> N 4: the upright box around each."""
    return torch.cat([quads.amin(1), quads.amax(1)], 1)


class BoxRegressor(nn.Module):
    """Four convolutions and a full layer, then the box's corners. It starts by leaving every box as it is.

    jitter: proposals that are made of each true box in training.
    """

    result = Quads
    needs = ("quads",)
    measured = "pictures"  # alone it finds nothing: its loss is what there is to validate

    def __init__(self, widths: tuple[int, ...], hidden: int, jitter: int) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.features = nn.Sequential(
            nn.Conv2d(1, first, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(first, second, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(second, third, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(third, fourth, 3, padding=1), nn.ReLU(inplace=True),
            nn.Flatten(), nn.Linear(fourth * (CROP[0] // 8) * (CROP[1] // 8), hidden), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.corners = nn.Linear(hidden, 4)
        nn.init.normal_(self.corners.weight, std=1e-6)
        nn.init.zeros_(self.corners.bias)
        self.jitter = jitter
        self.prepare = Prepare(mean=(0.0,) * 3, std=(1 / 255,) * 3)  # levels as they are

    def forward(self, images: Tensor, boxes: list[Tensor]) -> Tensor:
        """B 3 H W levels and each picture's boxes, M_i 4 -> M 4: where each word lies in its crop, as shares of the crop's sides."""
        crops = roi_align(images.float(), [inflated(some) for some in boxes], CROP, sampling_ratio=2, aligned=True)  # M 3 32 100
        grey = torch.einsum("mchw,c->mhw", crops, crops.new_tensor([0.299, 0.587, 0.114]))[:, None] / 255 - 0.5
        return self.corners(self.features(grey)).float() + grey.new_tensor(OWN)

    def regressed(self, images: Tensor, boxes: Tensor) -> Tensor:
        """1 3 H W and N 4 xyxy -> N 4, moved to where the words are."""
        outer = inflated(boxes)
        size = (outer[:, 2:] - outer[:, :2]).repeat(1, 2)
        found = outer[:, :2].repeat(1, 2) + self.forward(images, [boxes]) * size
        return torch.cat([torch.minimum(found[:, :2], found[:, 2:] - 1), torch.maximum(found[:, 2:], found[:, :2] + 1)], 1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """box: the mean squared distance of the corners, in shares of the crop, from true boxes that were moved and resized by chance."""
        proposals, wanted = [], []
        for target in batch.targets or []:
            kept = target.quads if target.spared is None else target.quads[~target.spared]
            true = bounds(kept.float()).repeat(self.jitter, 1)
            noise = torch.rand(len(true), 4, device=true.device) * 2 - 1
            size = true[:, 2:] - true[:, :2]
            middle = (true[:, :2] + true[:, 2:]) / 2 + noise[:, :2] * MOVE * size
            half = size / 2 * torch.exp(noise[:, 2:] * RESIZE)
            boxes = torch.cat([middle - half, middle + half], 1)
            outer = inflated(boxes)
            proposals.append(boxes)
            wanted.append((true - outer[:, :2].repeat(1, 2)) / (outer[:, 2:] - outer[:, :2]).clamp(min=1e-3).repeat(1, 2))
        want = torch.cat(wanted)
        return {"box": (self.forward(batch.images, proposals) - want).square().sum() / max(1, want.numel())}
