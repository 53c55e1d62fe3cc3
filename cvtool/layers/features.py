"""Frozen features: the maps of a trained classifier's layers, by name, by which losses compare pictures (Johnson 2016, arXiv:1603.08155)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool import weights
from cvtool.batch import Prepare
from cvtool.errors import UsageError, did_you_mean


class Features:
    """Pictures B C H W in [0, 1] -> maps B C' H' W' of the named layers, or the network's embedding.

    The network is in eval mode and its weights are fixed; the gradient goes through it to the pictures. It is no module on purpose: a loss that
    uses it saves nothing of it. One channel counts as gray. What lies behind the last layer asked for is not computed.

    model: a classifier with `net`, `prepare` and, for embeddings, `features`.
    """

    def __init__(self, model: Any) -> None:
        self.model = model.eval().requires_grad_(False)
        self.prepare: Prepare = model.prepare
        self.places = places(model.net)
        for module in model.modules():
            if hasattr(module, "inplace"):
                module.inplace = False  # else a layer would overwrite the map of the one before it

    @classmethod
    def load(cls, reference: str, *, offline: bool = False) -> Self:
        """Of a classifier by reference: `vgg16`, `vgg.tiny@PATH`, `timm:resnet18`, a run. Raises ModelError as `weights.load` does, UsageError."""
        model, _ = weights.load(reference, offline=offline)
        if not (hasattr(model, "net") and hasattr(model, "prepare")):
            raise UsageError(f"{reference} is no classifier, whose layers could be compared", hint="such as net=vgg16 or net=resnet50")
        return cls(model)

    def __call__(self, pictures: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """The maps of `layers`, in that order, at the pictures' own size. Raises UsageError with the right names for a wrong one."""
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
                found[name] = output
                if len(found) == len(wanted):
                    raise _Done

            return hook

        wanted = {name: self.module(name) for name in layers}
        handles = [module.register_forward_hook(keep(name)) for name, module in wanted.items()]
        try:
            self.model.net(self.entering(pictures))
        except _Done:
            pass
        finally:
            for handle in handles:
                handle.remove()
        if missing := [name for name in layers if name not in found]:
            raise UsageError(f"the network passes by its layer {missing[0]} without a map")
        return [found[name] for name in layers]

    def module(self, name: str) -> nn.Module:
        """A layer by the paper's name (relu2_2) or its module's (layer3.0, features.4). Raises UsageError."""
        modules = dict(self.model.net.named_modules())
        place = self.places.get(name, name)
        if not place or place not in modules:
            known = [*self.places, *(key for key in modules if key and "." not in key)]
            raise UsageError(f"the network has no layer '{name}'", hint=did_you_mean(name, known) or "layers: " + ", ".join(known[:24]))
        return modules[place]

    def embedding(self, pictures: Tensor) -> Tensor:
        """B D, what stands before the last layer, of the pictures resized to the network's own size where it has one."""
        height, width = pictures.shape[-2:]
        if self.prepare.resize is not None and isinstance(self.prepare.size, int) and self.prepare.size:
            height = width = self.prepare.size
        elif isinstance(self.prepare.size, tuple):
            height, width = self.prepare.size
        if (height, width) != tuple(pictures.shape[-2:]):
            pictures = F.interpolate(pictures, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
        return self.model.features(self.entering(pictures))

    def entering(self, pictures: Tensor) -> Tensor:
        """B 1 or 3 H W in [0, 1] -> B 3 H W as the network was trained; the network follows the pictures to their device."""
        if next(self.model.parameters()).device != pictures.device:
            with torch.inference_mode(False):
                self.model.to(pictures.device)
        mean, deviation = (pictures.new_tensor(v).view(1, -1, 1, 1) for v in (self.prepare.mean, self.prepare.std))
        return (pictures.expand(-1, 3, -1, -1) - mean) / deviation


class _Done(Exception):
    """All maps are there."""


def places(net: nn.Module) -> dict[str, str]:
    """The paper's names of a network's layers -> its modules' names: the net's own `layers`, else VGG's way of counting, where `features` is a chain.

    Counted are convolutions and what rectifies or normalises them (conv1_1, norm1_1, relu1_1) in stages that end with a pooling (pool1).
    """
    if isinstance(own := getattr(net, "layers", None), dict):
        return own
    found: dict[str, str] = {}
    chain = getattr(net, "features", None)
    stage, number = 1, 0
    for key, module in chain.named_children() if isinstance(chain, nn.Sequential) else ():
        if isinstance(module, nn.Conv2d):
            number += 1
            found[f"conv{stage}_{number}"] = f"features.{key}"
        elif isinstance(module, nn.ReLU | nn.BatchNorm2d):
            found[f"{'relu' if isinstance(module, nn.ReLU) else 'norm'}{stage}_{number}"] = f"features.{key}"
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            found[f"pool{stage}"] = f"features.{key}"
            stage, number = stage + 1, 0
    return found


_LOADED: dict[str, Features] = {}


def shared(reference: str, *, offline: bool = False) -> Features:
    """One network for all losses of a process that name it."""
    if reference not in _LOADED:
        with torch.inference_mode(False):  # what is first asked for while validating must let gradients through afterwards
            _LOADED[reference] = Features.load(reference, offline=offline)
    return _LOADED[reference]


def compared(features: Features, prediction: Tensor, target: Tensor, layers: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
    """(map of the prediction, map of the target) of each layer; the target's have no gradient."""
    with torch.no_grad():
        theirs = features(target, layers)
    return [(one.float(), other.float()) for one, other in zip(features(prediction, layers), theirs, strict=True)]
