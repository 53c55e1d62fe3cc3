"""Non-saturating form of the generator's loss: made pictures shall be called real (Goodfellow 2014, arXiv:1406.2661, section 3)."""

from __future__ import annotations

from torch import Tensor

from cvtool.losses.adversarial import adversarial


def non_saturating(scores: Tensor) -> Tensor:
    """Mean of -ln D over a discriminator's logits of made pictures, of any shape: binary cross-entropy with the labels turned round.

    Its gradient by the logit is D - 1: nearly -1 where the discriminator is sure that a picture is made, where that of `minimax` is nearly 0.
    """
    return adversarial(scores, True)
