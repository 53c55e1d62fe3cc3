"""Style loss: which features occur together, wherever they occur, is a picture's style (Gatys 2015, arXiv:1508.06576)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cvtool.errors import UsageError
from cvtool.layers.features import Features, compared, shared

KINDS = ("pictures",)
ALIASES = ("style", "gram")
FORMS = ("gatys", "johnson")


def gram_style(
    prediction: Tensor, target: Tensor, *, features: Features, layers: Sequence[str], weights: Sequence[float] = (), form: str = "gatys"
) -> Tensor:
    """Sum over the layers l of w_l E_l, E_l = 1 / (4 N^2 M^2) sum_ij (G_ij - A_ij)^2 (eq. 4 and 5), the mean over the batch.

    N maps of M places each; G, A: their Gram matrices (`gram`) of the prediction and of the target, B C H W in [0, 1]. form "johnson":
    ||G - A||^2 of Gram matrices divided by C H W (arXiv:1603.08155, eq. 4). weights: one a layer, 1 / (number of layers) unless told. The gradient
    reaches the prediction alone. (A seed text calls it a root mean square; nothing is rooted.)
    """
    shares = list(weights) or [1 / len(layers)] * len(layers)
    terms = [layer_loss(own, theirs, form=form) for own, theirs in compared(features, prediction, target, layers)]
    return torch.stack([w * term for w, term in zip(shares, terms, strict=True)]).sum()


def gram(maps: Tensor) -> Tensor:
    """G = F F^T, B C H W -> B C C: the inner products of the maps, over all places. The order of the places does not matter."""
    flat = maps.float().flatten(2)  # B N M
    with torch.autocast(flat.device.type, enabled=False):  # sums over thousands of places, of which differences are taken
        return flat @ flat.transpose(1, 2)


def layer_loss(own: Tensor, theirs: Tensor, *, form: str = "gatys") -> Tensor:
    """E_l of two maps B C H W; they may differ in size under "johnson" alone, which divides each matrix by its own C H W.

    Raises UsageError for another form.
    """
    if form not in FORMS:
        raise UsageError(f"form of gram-style is {' or '.join(FORMS)}, not '{form}'")
    count, size = own.shape[1], own.shape[2] * own.shape[3]  # N, M
    if form == "johnson":
        return (gram(own) / (count * size) - gram(theirs) / (count * theirs.shape[2] * theirs.shape[3])).square().sum(dim=(1, 2)).mean()
    return ((gram(own) - gram(theirs)) / (2 * count * size)).square().sum(dim=(1, 2)).mean()


def make(
    *,
    net: str = "vgg19",
    layer: str = "relu1_1/relu2_1/relu3_1/relu4_1/relu5_1",
    weight: str = "",
    form: str = "gatys",
    offline: bool = False,
) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss by reference of its network, layers and weights with slashes between: `style:net=vgg19,layer=relu1_1/relu2_1,weight=1/0.5`."""
    features, layers, weights = shared(net, offline=offline), layer.split("/"), numbers(weight)
    for name in layers:
        features.module(name)
    return lambda prediction, target: gram_style(prediction, target, features=features, layers=layers, weights=weights, form=form)


def check(*, net: str, layer: str, weight: str, form: str) -> None:
    """Raises UsageError for a form that there is not, and for other than one weight a layer."""
    if form not in FORMS:
        raise UsageError(f"form of gram-style is {' or '.join(FORMS)}, not '{form}'")
    if weight and len(numbers(weight)) != len(layer.split("/")):
        raise UsageError(f"gram-style takes one weight a layer: {len(layer.split('/'))}, not {len(numbers(weight))}")


def numbers(text: str) -> list[float]:
    """`1/0.5` as numbers. Raises UsageError."""
    try:
        return [float(word) for word in text.split("/")] if text else []
    except ValueError as error:
        raise UsageError(f"weights of gram-style are numbers with slashes between, not '{text}'") from error
