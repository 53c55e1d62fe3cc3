"""Binary cross-entropy: the surprise at a yes or no, of each element by itself (Goodfellow 2016, Deep Learning, section 6.2.2.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cvtool.losses._reduce import reduced
from cvtool.losses._targets import labelled, weights_of

KINDS = ("labels", "semantic")


def bce(logits: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """-(y ln p + (1 - y) ln(1 - p)) with p = sigmoid(logits), finite for logits of any size; "mean", "sum" or "none" over all elements.

    logits, target: the same shape, y in [0, 1]; or logits N K and N class numbers (one against the rest, K questions a row); or maps, B K H W
    and B H W, without the pixels labelled 255.
    """
    logits, target = labelled(logits, target)
    target = weights_of(target, logits) if target.shape != logits.shape else target.to(logits.dtype)
    return reduced(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), reduction)


def bce_of_probabilities(p: Tensor, y: Tensor, *, reduction: str = "mean") -> Tensor:
    """The same of probabilities: 0 for y = 1, p = 1; as p goes to 0 it grows without end, cut off at 100 a logarithm (as torch does)."""
    return reduced(-(y * p.log().clamp(min=-100) + (1 - y) * (-p).log1p().clamp(min=-100)), reduction)
