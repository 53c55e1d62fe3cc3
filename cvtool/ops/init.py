"""Where weights begin: variances by fan-in and fan-out, each as a normal or a uniform distribution; and two starts that are not drawn at random."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cvtool.ops import kernels

DISTRIBUTIONS = ("normal", "uniform")


def fans(weight: Tensor, *, transposed: bool = False, stride: tuple[int, ...] = (), groups: int = 1) -> tuple[float, float]:
    """(fan-in, fan-out): how many inputs an output is a sum of, and how many outputs an input reaches.

    weight: outputs, inputs / groups, kernel ... ; transposed: inputs, outputs / groups, kernel ... , where an output of stride s sees 1 / s of the
    kernel along each axis.
    """
    field = math.prod(weight.shape[2:])
    if transposed:
        return weight.shape[0] / groups * field / math.prod(stride), weight.shape[1] * field
    return weight.shape[1] * field, weight.shape[0] / groups * field


@torch.no_grad()
def draw_(weight: Tensor, variance: float, distribution: str = "normal") -> Tensor:
    """Fill with numbers of mean 0 and this variance: N(0, v), or U(-a, a) with a = sqrt(3 v). Raises ValueError for another distribution."""
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"weights are drawn {' or '.join(DISTRIBUTIONS)}, not {distribution}")
    if distribution == "normal":
        return weight.normal_(0, math.sqrt(variance))
    bound = math.sqrt(3 * variance)
    return weight.uniform_(-bound, bound)


def xavier(fan_in: float, fan_out: float) -> float:
    """1 / fan-in: the variance of a linear layer's output is that of its input (the texts' form, randn / sqrt(n); LeCun 1998, section 4.6)."""
    return 1 / fan_in


def glorot(fan_in: float, fan_out: float) -> float:
    """2 / (fan-in + fan-out): the compromise between outputs forwards and gradients backwards (Glorot 2010, eq. 12)."""
    return 2 / (fan_in + fan_out)


def he(fan_in: float, fan_out: float) -> float:
    """2 / fan-in: a ReLU lets half of the second moment through (He 2015, arXiv:1502.01852, eq. 10)."""
    return 2 / fan_in


@torch.no_grad()
def trunc_normal_(weight: Tensor, std: float = 0.02) -> Tensor:
    """N(0, std^2) without what lies outside of two std: 0.88 std is left of the deviation (as the vision transformers have it)."""
    return torch.nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


@torch.no_grad()
def bilinear_(weight: Tensor) -> Tensor:
    """A transposed convolution's weight, C C k k (or C 1 k k in groups), as linear interpolation of each channel by itself.

    k = 3, stride 2, padding 1: n -> 2n - 1 values, as bilinear with align_corners=True (Long 2015, arXiv:1411.4038, section 3.3). Raises ValueError.
    """
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or weight.shape[1] not in (1, weight.shape[0]):
        raise ValueError(f"interpolation keeps its channels and has a square kernel: C C k k, not {'x'.join(map(str, weight.shape))}")
    kernel = torch.from_numpy(kernels.bilinear(weight.shape[2])).to(weight)
    weight.zero_()
    for channel in range(weight.shape[0]):
        weight[channel, channel % weight.shape[1]] = kernel
    return weight


def prior_bias(probability: float) -> float:
    """-ln((1 - psi) / psi): a sigmoid with this bias says `probability` before it has learned anything, 0.01 for -4.5951.

    All but a few of a detector's anchors are background; begun at 1/2, their loss would drown the few (Lin 2017, arXiv:1708.02002, section 3.3).
    """
    if not 0 < probability < 1:
        raise ValueError(f"a probability lies between 0 and 1, not {probability}")
    return -math.log((1 - probability) / probability)
