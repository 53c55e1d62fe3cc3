"""A discriminator's features: what its layers see, each pooled to 4 x 4 cells (Radford 2015, arXiv:1511.06434, section 5.1)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import activation

from cvtool.errors import UsageError

CELLS = 4


@torch.no_grad()
def features(model: Any, images: Tensor) -> Tensor:
    """A model with `judge` and `discriminator`, pictures B 3 H W as it takes them -> B D: the maxima of each activated map in 4 x 4 cells, joined.

    Raises UsageError for a discriminator that must be told the class.
    """
    if getattr(model, "conditional", 0):
        raise UsageError("the discriminator judges pictures of a known class, and has no features without it")
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if output.ndim == 4 and min(output.shape[-2:]) > CELLS:
            output = F.adaptive_max_pool2d(output, CELLS)
        seen.append(output.flatten(1).clone())  # what follows may write over it

    activations = [m for m in model.discriminator.modules() if type(m).__module__ == activation.__name__]
    handles = [module.register_forward_hook(keep) for module in activations]
    try:
        model.judge(images)
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(seen, 1)
