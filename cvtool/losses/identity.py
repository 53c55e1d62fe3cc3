"""Identity loss: two pictures show the same person if a network places them alike (Richardson 2020, arXiv:2008.00951, eq. 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool.layers.features import Features, shared

KINDS = ("pictures",)


def identity(prediction: Tensor, target: Tensor, *, features: Features) -> Tensor:
    """Mean of 1 - cos(R(prediction), R(target)), R the network's embedding: 0 for the same picture, 2 for opposite embeddings.

    B C H W in [0, 1]; the gradient reaches the prediction alone. Not for edits that change who is seen. (A seed text minimises the cosine
    itself, which would drive the two apart.)
    """
    with torch.no_grad():
        theirs = features.embedding(target)
    return (1 - F.cosine_similarity(features.embedding(prediction), theirs, dim=1)).mean()


def make(*, net: str = "resnet50", offline: bool = False) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss by reference of its network, one that was trained to tell people apart: `identity:net=faces.safetensors`."""
    features = shared(net, offline=offline)
    return lambda prediction, target: identity(prediction, target, features=features)
