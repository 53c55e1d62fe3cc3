"""Adversarial term: a discriminator tells made pictures from real ones, and the maker is paid for deceiving it (Goodfellow 2014, arXiv:1406.2661)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("pictures",)
ALIASES = ("adv", "gan")
STEP = "adversarial"


def adversarial(scores: Tensor, real: bool) -> Tensor:
    """Mean binary cross-entropy of a discriminator's logits, of any shape, with "real" (1) or "made" (0).

    The discriminator minimises adversarial(D(y), True) + adversarial(D(made), False); the maker adversarial(D(made), True), -ln D, whose gradient
    stays large where D is sure (section 3, "rather than training G to minimize log(1 - D(G(z)))").
    """
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, float(real)))
