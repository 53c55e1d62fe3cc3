"""Minimax form of the generator's loss: it minimises what the discriminator maximises (Goodfellow 2014, arXiv:1406.2661, eq. 1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def minimax(scores: Tensor) -> Tensor:
    """Mean of ln(1 - D) over a discriminator's logits of made pictures, of any shape, D = sigmoid(logit).

    Its gradient by the logit is -D: none where the discriminator is sure that a picture is made (section 3), as it is early on.
    """
    return -F.softplus(scores).mean()
