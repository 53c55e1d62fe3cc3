"""Squeeze-and-excitation: a map's channels weighed by what the whole picture holds (Hu 2017, arXiv:1709.01507, eq. 2-4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """s = sigmoid(W2 relu(W1 GAP(x))), each gate in [0, 1]; W1 has C/ratio rows (at least one). forward: B C H W -> B C H W, channel c times s_c.

    The two fully connected layers are 1x1 convolutions with biases, as timm's and torchvision's are: 2 C^2 / r + C / r + C parameters.
    """

    def __init__(self, channels: int, *, ratio: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // ratio)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def gates(self, x: Tensor) -> Tensor:
        """B C H W -> B C 1 1 in [0, 1]."""
        return self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gates(x)
