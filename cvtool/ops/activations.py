"""Non-linearities that torch has no function for, and what is dead behind one."""

from __future__ import annotations

from torch import Tensor


def maxout(x: Tensor, pieces: int, *, dim: int = 1) -> Tensor:
    """The largest of `pieces` neighbours along `dim`, B kC ... -> B C ..., max(x[ck], ..., x[ck+k-1]) (Goodfellow 2013, arXiv:1302.4389, section 3).

    Each neighbour is a linear map of what came before, so their maximum is convex and piecewise linear; of two, one of which is zero, it is ReLU.
    Raises ValueError where the channels cannot be shared out.
    """
    if pieces < 1 or x.shape[dim] % pieces:
        raise ValueError(f"{x.shape[dim]} channels cannot be shared out among maxima of {pieces}")
    return x.unflatten(dim, (-1, pieces)).amax(dim + 1 if dim >= 0 else dim)


def dead_share(x: Tensor) -> float:
    """The share of units that are zero for every picture at every place, B C ... behind a ReLU -> [0, 1]: they learn nothing from this batch."""
    return float((x == 0).transpose(0, 1).flatten(1).all(1).float().mean())
