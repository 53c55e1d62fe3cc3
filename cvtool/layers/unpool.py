"""Unpooling: values go back to where their maxima lay (Zeiler 2013, arXiv:1311.2901, section 2.1; Noh 2015, arXiv:1505.04366, fig. 3)."""

from __future__ import annotations

from torch import Tensor


def unpool(x: Tensor, switches: Tensor, size: tuple[int, int]) -> Tensor:
    """B C h w and the places of the maxima (B C h w int64, row-major in H x W) -> B C H W: each value at its place, zeros elsewhere.

    pool(unpool(pool(x))) = pool(x) for x >= 0, where no zero can win over a value. Windows that overlap may name one place twice; the same
    maximum is then written twice, once.
    """
    height, width = size
    flat = x.new_zeros(*x.shape[:2], height * width).scatter(2, switches.flatten(2), x.flatten(2))  # B C HW
    return flat.unflatten(2, (height, width))
