"""What two players lose, by name: minimax, non-saturating, lsgan, wgan, hinge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from cvtool.errors import UsageError, did_you_mean
from cvtool.losses.adversarial import adversarial
from cvtool.losses.gan_hinge import gan_hinge
from cvtool.losses.lsgan import lsgan
from cvtool.losses.minimax import minimax
from cvtool.losses.non_saturating import non_saturating
from cvtool.losses.wgan import wgan


@dataclass(frozen=True)
class Form:
    """Both losses.

    judging: the discriminator's, of its scores and whether the pictures are real, or, where it has `targets`, which number it shall say.
    deceiving: the generator's, of the discriminator's scores of what it made.
    """

    judging: Callable[[Tensor, Any], Tensor]
    deceiving: Callable[[Tensor], Tensor]
    targets: bool = False


FORMS = {
    "minimax": Form(adversarial, minimax, targets=True),
    "non-saturating": Form(adversarial, non_saturating, targets=True),
    "lsgan": Form(lsgan, partial(lsgan, real=True), targets=True),
    "wgan": Form(wgan, partial(wgan, real=True)),
    "hinge": Form(gan_hinge, partial(wgan, real=True)),
}


def form(name: str) -> Form:
    """Raises UsageError with the right names for a wrong one."""
    if name not in FORMS:
        raise UsageError(f"unknown gan_loss '{name}'", hint=did_you_mean(name, FORMS) or "gan_loss: " + ", ".join(FORMS))
    return FORMS[name]
