"""Spectral normalisation: a layer's weight divided by its largest singular value (Miyato 2018, arXiv:1802.05957, section 3.1)."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrizations, parametrize

KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def spectral_norm(model: nn.Module) -> int:
    """Normalise the weight of every linear and convolutional layer: W / sigma(W), W as a matrix of outputs x the rest. Returns how many.

    sigma comes of a power iteration whose vectors are kept: fifteen rounds at the start, one a forward pass in training, none at evaluation. A
    checkpoint holds W / sigma under the layer's own name (`checkpoint.save`), so that it loads into the bare model.
    """
    found = [module for module in model.modules() if isinstance(module, KINDS) and not parametrize.is_parametrized(module, "weight")]
    for module in found:
        parametrizations.spectral_norm(module)
    return len(found)
