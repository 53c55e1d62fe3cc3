"""Perceptual loss: pictures are alike if a trained network sees them alike (Johnson 2016, arXiv:1603.08155; Gatys 2015, arXiv:1508.06576)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cvtool.layers.features import Features, compared, shared

KINDS = ("pictures",)


def perceptual(prediction: Tensor, target: Tensor, *, features: Features, layers: Sequence[str]) -> Tensor:
    """Sum over the layers j of 1 / (C H W) ||phi_j(prediction) - phi_j(target)||^2 (eq. 2), the mean over the batch.

    prediction, target: B C H W in [0, 1]. 0 for equal pictures; the gradient reaches the prediction alone. With one layer it is the content
    loss of style transfer. It costs a pass of the network forth and back for each picture.
    """
    return torch.stack([(own - theirs).square().mean() for own, theirs in compared(features, prediction, target, layers)]).sum()


def make(*, net: str = "vgg16", layer: str = "relu2_2", offline: bool = False) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss by reference of its network and names of layers with slashes between: `perceptual:net=vgg.tiny@PATH,layer=relu1_1/relu2_2`."""
    features, layers = shared(net, offline=offline), layer.split("/")
    for name in layers:
        features.module(name)
    return lambda prediction, target: perceptual(prediction, target, features=features, layers=layers)
