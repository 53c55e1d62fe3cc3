"""What keeps a network from learning its pictures by heart, as a recipe says it: dropout, drop_path, spectral_norm and l1.

weight_decay is the optimiser's, label_smoothing the classifier's losses', input_noise the loop's, early_stop the loop's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cvtool.errors import UsageError
from cvtool.layers.spectral_norm import spectral_norm
from cvtool.layers.stochastic_depth import StochasticDepth, linear
from cvtool.runtime.torchvision import cheap_import

with cheap_import():
    from torchvision import ops as tv

SMALL = 1e-3  # a weight below it counts as none
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def apply(model: nn.Module, recipe: Mapping[str, Any], name: str = "the model") -> None:
    """Set up what the recipe asks of the model's layers. To be called once, after weights were loaded and before they are handed to an optimiser.

    Raises UsageError for what has no effect on this model.
    """
    if recipe["dropout"] >= 0 and not set_dropout(model, recipe["dropout"]):
        raise UsageError(f"--dropout has no effect on {name}: it has no dropout", hint="leave it out")
    if recipe["drop_path"] >= 0 and not set_drop_path(model, recipe["drop_path"]):
        raise UsageError(f"--drop-path has no effect on {name}: it has no branches to leave out", hint="it goes with residual networks")
    if recipe["spectral_norm"] and not spectral_norm(model):
        raise UsageError(f"--spectral-norm has no effect on {name}: it has no linear or convolutional layer", hint="leave it out")


def set_dropout(model: nn.Module, p: float) -> int:
    """Give every dropout, those of attention weights too, the probability `p` to drop; returns how many there are."""
    found = 0
    for module in model.modules():
        if isinstance(module, _DROPOUTS):
            module.p, found = p, found + 1
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout, found = p, found + 1
        elif isinstance(getattr(module, "drop_rate", None), float) and any(isinstance(child, nn.Conv2d) for child in module.children()):
            module.drop_rate, found = p, found + 1  # type: ignore[assignment]  # torchvision's dense layers drop without a module
    return found


def set_drop_path(model: nn.Module, rate: float) -> int:
    """Leave out residual branches with probabilities that grow linearly to `rate` at the last block; returns how many blocks there are.

    Blocks are counted as they stand in the model; the branches of one block (its modules called drop_path, drop_path1 ...) share a rate. Where a
    library left an identity in their place, because its rate was zero, one is put in.
    """
    blocks: list[list[tuple[nn.Module, str]]] = []
    for module in model.modules():
        branches = [(module, name) for name, child in module.named_children() if _is_branch(name, child)]
        if branches:
            blocks.append(branches)
    for branches, own in zip(blocks, linear(rate, len(blocks)), strict=True):
        for module, name in branches:
            child = getattr(module, name)
            if isinstance(child, nn.Identity):
                setattr(module, name, StochasticDepth(own))
            else:
                key = next(key for key in ("rate", "p", "drop_prob") if hasattr(child, key))
                setattr(child, key, own)
    return len(blocks)


def _is_branch(name: str, child: nn.Module) -> bool:
    timms = type(child).__name__ == "DropPath" and hasattr(child, "drop_prob")
    return isinstance(child, StochasticDepth | tv.StochasticDepth) or timms or (isinstance(child, nn.Identity) and name.startswith("drop_path"))


def penalty(model: nn.Module, recipe: Mapping[str, Any]) -> dict[str, Tensor]:
    """Losses beside the model's own: `l1`, the recipe's factor times the sum of |w| over the weights that decay; {} without one."""
    if not recipe["l1"]:
        return {}
    found = [p for p in weights(model) if p.requires_grad]
    return {"l1": recipe["l1"] * torch.stack([p.abs().sum() for p in found]).sum()} if found else {}


@torch.no_grad()
def report(model: nn.Module) -> dict[str, float]:
    """squared_norm: |w|^2, of which weight decay is the gradient of its half; small_weights: the share of |w| < 1e-3, which l1 raises."""
    found = [p.detach() for p in weights(model)]
    count = sum(p.numel() for p in found)
    if not count:
        return {}
    squares = torch.stack([p.float().square().sum() for p in found]).sum()
    small = torch.stack([(p.abs() < SMALL).sum() for p in found]).sum()
    return {"squared_norm": float(squares), "small_weights": float(small) / count}


def weights(model: nn.Module) -> list[nn.Parameter]:
    """Those that are drawn towards zero: tensors of two or more axes. Norms' scales and biases are left in peace."""
    return [p for p in model.parameters() if p.ndim >= 2]
