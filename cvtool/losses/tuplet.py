"""(n+1)-tuplet loss with the hardest negative: one positive against all negatives at once (Sohn 2016, NIPS, section 3.1)."""

from __future__ import annotations

from torch import Tensor

from cvtool.losses._reduce import reduced
from cvtool.losses._vectors import by_positive

KINDS = ("embeddings",)


def tuplet(z: Tensor, labels: Tensor, *, reduction: str = "mean") -> Tensor:
    """max(0, max_n a.n - a.p) over each anchor and positive. z: B D; labels: B int64.

    Only the hardest negative gets a gradient; `infonce` is above it."""
    ap, an = by_positive(z @ z.T, labels)
    return reduced((an.amax(1) - ap).clamp(min=0), reduction)
