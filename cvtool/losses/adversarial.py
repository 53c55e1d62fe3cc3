"""Adversarial term: a discriminator tells made pictures from real ones, and the maker is paid for deceiving it (Goodfellow 2014, arXiv:1406.2661)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("pictures",)
ALIASES = ("adv", "gan")
STEP = "adversarial"


def adversarial(scores: Tensor, real: bool | float) -> Tensor:
    """Mean binary cross-entropy of a discriminator's logits, of any shape, with "real" (True, 1) or "made" (False, 0), or with a target between.

    The discriminator minimises adversarial(D(y), True) + adversarial(D(made), False); the maker adversarial(D(made), True), -ln D, whose gradient
    stays large where D is sure (section 3, "rather than training G to minimize log(1 - D(G(z)))").

    A target of 0.9 for real pictures and 0 for made ones is one-sided smoothing (Salimans 2016, arXiv:1606.03498, section 3.4): the best D is then
    0.9 p_real / (p_real + p_made), and never sure.
    """
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, float(real)))
