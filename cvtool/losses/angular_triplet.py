"""Angular triplet loss: by angle nearer to its own class than to another, whatever the lengths (Wang 2017, arXiv:1708.01682, in its cosine form)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cvtool.losses._reduce import reduced
from cvtool.losses._vectors import by_triple

KINDS = ("embeddings",)
BESIDE = ("triples",)


def angular_triplet(z: Tensor, labels: Tensor, *, triples: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """max(0, cos(a, n) - cos(a, p)) over the `triples`, T 3, or all of the batch. z: B D, brought to length 1 here; labels: B int64."""
    a, p, n = by_triple(F.normalize(z, dim=1), labels, triples)
    return reduced(((a * n).sum(1) - (a * p).sum(1)).clamp(min=0), reduction)
