"""A light residual network that trains from scratch on one CPU thread: ResNet-18's plan at a fraction of its width."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut (He 2015, arXiv:1512.03385, fig. 2); 1x1 on the shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        nn.init.constant_(self.norm2.weight, 0.2)  # a block begins close to its shortcut, which lets a large learning rate start at once
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class NarrowResNet(nn.Module):
    """Four stages of `blocks` residual blocks, `widths` channels wide, at strides 4, 8, 16 and 32.

    The stem is two 3x3 convolutions of stride 2 instead of a 7x7 and a max-pool: cheaper, and small objects keep their edges.
    forward: B 3 H W -> {"0": B widths[0] H/4 W/4, ..., "3": B widths[3] H/32 W/32}, for the stages named in `returns`.
    """

    def __init__(
        self, widths: tuple[int, ...] = (32, 64, 128, 256), *, blocks: tuple[int, ...] = (2, 2, 2, 2), returns: tuple[int, ...] = (0, 1, 2, 3)
    ):
        super().__init__()
        half = max(8, widths[0] // 2)
        self.stem = nn.Sequential(
            nn.Conv2d(3, half, 3, 2, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(),
            nn.Conv2d(half, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(),
        )  # fmt: skip
        self.stages = nn.ModuleList()
        inputs = widths[0]
        for i, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            rest = [Block(width, width) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(Block(inputs, width, stride=1 if i == 0 else 2), *rest))
            inputs = width
        self.returns = returns
        self.channels = [widths[i] for i in returns]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        out: dict[str, Tensor] = OrderedDict()
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.returns:
                out[str(i)] = x
        return out
