"""Convolution as arithmetic: the size of its map, patches as the rows of a matrix, the matrix itself, and which inputs an output reads."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def out_size(size: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """(W - F + 2 P) / S + 1, rounded down, F being the kernel with its gaps: 227, 11, stride 4 -> 55."""
    return (size - spread(kernel, dilation) + 2 * padding) // stride + 1


def transposed_size(size: int, kernel: int, *, stride: int = 1, padding: int = 0) -> int:
    """(W - 1) S + F - 2 P, what a convolution of that stride and padding shrinks to W: 3, kernel 3, stride 2 -> 7, or 5 with padding 1."""
    return (size - 1) * stride + kernel - 2 * padding


def spread(kernel: int, dilation: int) -> int:
    """Cells from a dilated kernel's first to its last: 3 at rate 2 covers 5, at 3 covers 7, at 4 covers 9."""
    return dilation * (kernel - 1) + 1


def im2col(x: Tensor, kernel: int | tuple[int, int], *, stride: int = 1, padding: int = 0) -> Tensor:
    """B C H W -> B N C*k*k: a row a place of the output, in it what the kernel (k x k, or its two sides) reads there.

    3 x 227 x 227, kernel 11, stride 4: 3025 rows of 363.
    """
    return F.unfold(x, kernel, padding=padding, stride=stride).transpose(1, 2)


def conv2d_im2col(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0) -> Tensor:
    """A convolution as one matrix product: patches (B N C*k*k) @ kernels (C*k*k M) -> B M h w. weight: M C k k (or k k')."""
    kernel = int(weight.shape[-2]), int(weight.shape[-1])
    height, width = (out_size(side, k, stride=stride, padding=padding) for side, k in zip(x.shape[-2:], kernel, strict=True))
    y = im2col(x, kernel, stride=stride, padding=padding) @ weight.flatten(1).t()  # B N M
    y = y if bias is None else y + bias
    return y.transpose(1, 2).unflatten(2, (height, width))


def conv_matrix(kernel: Tensor, size: tuple[int, int], *, stride: int = 1, padding: int = 0) -> Tensor:
    """K with K @ x.flatten() = the convolution of one H x W map with a k x k kernel: h*w H*W. A transposed convolution multiplies by K^T."""
    basis = torch.eye(size[0] * size[1], dtype=kernel.dtype).unflatten(1, size)[:, None]  # HW 1 H W
    return F.conv2d(basis, kernel[None, None], stride=stride, padding=padding).flatten(1).t()


def receptive_field(network: Callable[[Tensor], Tensor], *, channels: int = 3, size: int = 129) -> tuple[int, int]:
    """Height and width of the part of a `size` x `size` input on which the middle output depends, measured by the gradient.

    Rectifiers stop some of it: the network should have none, or positive weights. What reaches the border is cut there. The network must give a map
    (B C h w); it is run in double precision on ones.
    """
    x = torch.ones(1, channels, size, size, dtype=torch.float64, requires_grad=True)
    y = network(x)
    (grad,) = torch.autograd.grad(y[..., y.shape[-2] // 2, y.shape[-1] // 2].sum(), x)
    read = grad.abs().sum((0, 1)) > 0  # H W
    rows, columns = read.any(1).nonzero(), read.any(0).nonzero()
    if not len(rows):
        return 0, 0
    return int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
