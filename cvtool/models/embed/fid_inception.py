"""FID's Inception: the network whose features the Frechet distance is measured by (Szegedy 2015, arXiv:1512.00567).

TensorFlow's graph of December 2015 (Heusel 2017, arXiv:1706.08500), as pytorch-fid and torch-fidelity carry it, tensor for tensor, so that their file
loads. It differs from torchvision's inception_v3: averages leave the padding out of their count, the last block pools by maximum, 1008 classes, no
auxiliary head. Pictures are stretched to 299 x 299 (bilinear, no antialias: pytorch-fid's way) and lie in [-1, 1].
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.results import Embedding

VARIANTS = {"base": {}, "tiny": {"divide": 16, "image_size": 96}}
WEIGHTS = {
    "base@tensorflow": {
        "url": "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "sha256": "6726825d",
        "licence": "Apache-2.0",
        "data": "ImageNet-1K",
        "categories": 1008,
        "metrics": {},
    },
}
ALIASES = {"inception-fid": "base", "inception-v3-compat": "base"}
RECIPE: dict[str, object] = {}

Size = int | tuple[int, int]
Layer = tuple[str, int, Size]  # name behind the branch's, maps, kernel


class Conv(nn.Module):
    """Convolution, batch normalisation, ReLU; padded to keep the size unless `valid`."""

    def __init__(self, channels: int, width: int, kernel: Size, *, stride: int = 1, valid: bool = False) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (0, 0) if valid else (sides[0] // 2, sides[1] // 2)
        self.conv = nn.Conv2d(channels, width, sides, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, joined: each a chain of convolutions, of which those named ..a and ..b at its end split it; and a pooling.

    pool: avg or max before a 1 x 1 convolution to `pooled` maps (stride 1), or "down": a maximum of stride 2 as it is, and then the last convolution
    of every branch strides too, without padding.
    """

    def __init__(self, channels: int, branches: dict[str, list[Layer]], *, pool: Literal["avg", "max", "down"], pooled: int = 0) -> None:
        super().__init__()
        self.chains: list[list[str]] = []
        self.pool, self.width = pool, 0
        for branch, layers in branches.items():
            names, before = [], channels
            for number, (part, width, kernel) in enumerate(layers):
                down = pool == "down" and number == len(layers) - 1
                self.add_module(branch + part, Conv(before, width, kernel, stride=2 if down else 1, valid=down))
                names.append(branch + part)
                before = before if part.endswith("a") else width
                self.width += width if part.endswith("a") or number == len(layers) - 1 else 0
            self.chains.append(names)
        self.width += pooled or channels
        if pool != "down":
            self.branch_pool = Conv(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for names in self.chains:
            y = x
            for name in names:
                made = self.get_submodule(name)(y)
                if name.endswith("a"):  # its twin reads the same
                    parts.append(made)
                else:
                    y = made
            parts.append(y)
        if self.pool == "down":
            parts.append(F.max_pool2d(x, 3, 2))
        elif self.pool == "max":
            parts.append(self.branch_pool(F.max_pool2d(x, 3, 1, 1)))
        else:
            parts.append(self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)))
        return torch.cat(parts, 1)


def _a(channels: int, pooled: int, d: int) -> Mixed:
    fives: list[Layer] = [("_1", 48 // d, 1), ("_2", 64 // d, 5)]
    threes: list[Layer] = [("_1", 64 // d, 1), ("_2", 96 // d, 3), ("_3", 96 // d, 3)]
    return Mixed(channels, {"branch1x1": [("", 64 // d, 1)], "branch5x5": fives, "branch3x3dbl": threes}, pool="avg", pooled=pooled // d)


def _b(channels: int, d: int) -> Mixed:
    threes: list[Layer] = [("_1", 64 // d, 1), ("_2", 96 // d, 3), ("_3", 96 // d, 3)]
    return Mixed(channels, {"branch3x3": [("", 384 // d, 3)], "branch3x3dbl": threes}, pool="down")


def _c(channels: int, width: int, d: int) -> Mixed:
    across, down = (1, 7), (7, 1)
    c = width // d
    once: list[Layer] = [("_1", c, 1), ("_2", c, across), ("_3", 192 // d, down)]
    twice: list[Layer] = [("_1", c, 1), ("_2", c, down), ("_3", c, across), ("_4", c, down), ("_5", 192 // d, across)]
    return Mixed(channels, {"branch1x1": [("", 192 // d, 1)], "branch7x7": once, "branch7x7dbl": twice}, pool="avg", pooled=192 // d)


def _d(channels: int, d: int) -> Mixed:
    sevens: list[Layer] = [("_1", 192 // d, 1), ("_2", 192 // d, (1, 7)), ("_3", 192 // d, (7, 1)), ("_4", 192 // d, 3)]
    return Mixed(channels, {"branch3x3": [("_1", 192 // d, 1), ("_2", 320 // d, 3)], "branch7x7x3": sevens}, pool="down")


def _e(channels: int, d: int, pool: Literal["avg", "max"]) -> Mixed:
    c = 384 // d
    threes: list[Layer] = [("_1", c, 1), ("_2a", c, (1, 3)), ("_2b", c, (3, 1))]
    twice: list[Layer] = [("_1", 448 // d, 1), ("_2", c, 3), ("_3a", c, (1, 3)), ("_3b", c, (3, 1))]
    return Mixed(channels, {"branch1x1": [("", 320 // d, 1)], "branch3x3": threes, "branch3x3dbl": twice}, pool=pool, pooled=192 // d)


class FIDInception(nn.Module):
    """B 3 H W in [-1, 1] -> features B 2048, the averages of the last maps."""

    result = Embedding

    def __init__(self, *, divide: int, prepare: Prepare) -> None:
        super().__init__()
        d = divide
        self.prepare = prepare
        self.Conv2d_1a_3x3 = Conv(3, 32 // d, 3, stride=2, valid=True)
        self.Conv2d_2a_3x3 = Conv(32 // d, 32 // d, 3, valid=True)
        self.Conv2d_2b_3x3 = Conv(32 // d, 64 // d, 3)
        self.Conv2d_3b_1x1 = Conv(64 // d, 80 // d, 1, valid=True)
        self.Conv2d_4a_3x3 = Conv(80 // d, 192 // d, 3, valid=True)
        width = 192 // d
        for name, make in {
            "5b": lambda c: _a(c, 32, d), "5c": lambda c: _a(c, 64, d), "5d": lambda c: _a(c, 64, d), "6a": lambda c: _b(c, d),
            "6b": lambda c: _c(c, 128, d), "6c": lambda c: _c(c, 160, d), "6d": lambda c: _c(c, 160, d), "6e": lambda c: _c(c, 192, d),
            "7a": lambda c: _d(c, d), "7b": lambda c: _e(c, d, "avg"), "7c": lambda c: _e(c, d, "max"),
        }.items():  # fmt: skip
            block = make(width)
            self.add_module(f"Mixed_{name}", block)
            width = block.width
        self.fc = nn.Linear(width, 1008)

    def forward(self, images: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean((2, 3))

    def logits(self, images: Tensor) -> Tensor:
        """B 1008 of the classes, without their biases: what the inception score reads in both reference implementations."""
        return F.linear(self(images), self.fc.weight)

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """B 2048."""
        return self(batch.images)

    def predict(self, batch: Batch) -> list[Embedding]:
        return [Embedding(vector) for vector in self.embed(batch).float()]


def build(*, classes: int = 0, divide: int = 1, image_size: int = 299) -> FIDInception:
    """divide: all widths by it (16 for tests). Pictures are stretched to a square of `image_size`."""
    prepare = Prepare(resize="stretch", size=image_size, mean=(0.5,) * 3, std=(0.5,) * 3, antialias=False)
    return FIDInception(divide=divide, prepare=prepare)
