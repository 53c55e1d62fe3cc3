"""What a picture's vector is: the model's pooled features, or what any of its layers gives, pooled or for every position, of length 1 or not."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cvtool.batch import Batch
from cvtool.errors import UsageError
from cvtool.layers.classifier import Classifier
from cvtool.runtime.pool import Loaded
from cvtool.tasks.embedding._fold import folded


@dataclass(frozen=True)
class Features:
    """layer: a module's name, as `named_modules` has it (the model's own wrapper may be left out); None: what the model calls its features.

    tokens: a vector for every position (of the layer, or of the last map) instead of their mean. normalize: of length 1.
    """

    layer: str | None = None
    tokens: bool = False
    normalize: bool = False

    def facts(self) -> dict[str, Any]:
        """What a manifest says of it."""
        facts = {"layer": self.layer, "tokens": self.tokens, "normalized": self.normalize}
        return {key: value for key, value in facts.items() if value}


def encoder(loaded: Loaded, features: Features) -> Callable[[Batch], Tensor]:
    """batch -> B D (tokens: B T D), float32. Raises UsageError for a layer that the model has not, or a model without features."""
    model = loaded.model
    if features.layer is None and not features.tokens:
        if not hasattr(model, "embed"):
            raise UsageError(f"{loaded.reference} gives no features", hint="`cvtool models list --verb embed` shows what does; or --layer NAME")
        fast = folded(model) if type(model) is Classifier else None
        return lambda batch: finished(model.embed(batch) if fast is None else fast(batch.images), features)
    asked = None if features.layer is None else layer_of(model, features.layer, str(loaded.reference))
    name: list[str] = [asked] if asked is not None else []

    def encode(batch: Batch) -> Tensor:
        if not name:
            name.append(last_map(model, batch, str(loaded.reference)))
        out = output_of(model, name[0], batch)
        if out is None:
            raise UsageError(f"the layer '{name[0]}' of {loaded.reference} is not passed", hint="another layer, such as " + ", ".join(some(model)))
        if out.dim() == 2 and features.tokens:
            raise UsageError(f"the layer '{name[0]}' of {loaded.reference} has no positions", hint="leave --tokens out, or name an earlier layer")
        if out.dim() > 2:
            places = positions(out)
            out = places if features.tokens else places.mean(1)
        return finished(out, features)

    return encode


def finished(vectors: Tensor, features: Features) -> Tensor:
    vectors = vectors.float()
    return nn.functional.normalize(vectors, dim=-1) if features.normalize else vectors


def layer_of(model: nn.Module, name: str, reference: str) -> str:
    """The full name of a layer: as given, or the one least deep that ends so. Raises UsageError."""
    names = [known for known, _ in model.named_modules() if known]
    if name in names:
        return name
    ending = sorted((known for known in names if known.endswith("." + name)), key=lambda known: known.count("."))
    if ending and (len(ending) == 1 or ending[0].count(".") < ending[1].count(".")):
        return ending[0]
    if ending:
        raise UsageError(f"the layer '{name}' of {reference} could be {' or '.join(ending[:3])}")
    close = difflib.get_close_matches(name, [known.partition(".")[2] if known.startswith("net.") else known for known in names], n=3, cutoff=0.5)
    raise UsageError(f"{reference} has no layer '{name}'", hint="its layers: " + ", ".join([*close, *(n for n in some(model) if n not in close)]))


def some(model: nn.Module) -> list[str]:
    """The names of its outermost layers."""
    inside = getattr(model, "net", None)
    return [name for name, _ in (inside if isinstance(inside, nn.Module) else model).named_children()][:12]


def output_of(model: Any, name: str, batch: Batch) -> Tensor | None:
    """What a forward hook on the module sees (the last time, where it is passed several times); None where it is not passed."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, given: Any, out: Any) -> None:
        if (tensor := tensor_in(out)) is not None:
            seen[:] = [tensor.clone()]  # what follows may change it in place

    handle = model.get_submodule(name).register_forward_hook(keep)
    try:
        for way in ways(model):
            if not seen:
                way(batch)
    finally:
        handle.remove()
    return seen[0] if seen else None


def ways(model: Any) -> list[Callable[[Batch], Any]]:
    """Through the model: to its features and to its answer, which may pass other layers."""
    return [getattr(model, name) for name in ("embed", "predict") if hasattr(model, name)] or [lambda batch: model(batch.images)]


def tensor_in(out: Any) -> Tensor | None:
    """The first tensor of a module's output."""
    if isinstance(out, Tensor):
        return out
    inside = out.values() if isinstance(out, dict) else out if isinstance(out, tuple | list) else ()
    return next((found for value in inside if (found := tensor_in(value)) is not None), None)


def last_map(model: Any, batch: Batch, reference: str) -> str:
    """The module that gives the last vectors of several positions. Raises UsageError for a model that never has any."""
    found: list[str] = []

    def looking(name: str) -> Any:
        def look(module: nn.Module, given: Any, out: Any) -> None:
            if isinstance(out, Tensor) and out.dim() in (3, 4) and out.shape[0] == len(batch) and positions(out).shape[1] > 1:
                found[:] = [name]

        return look

    handles = [module.register_forward_hook(looking(name)) for name, module in model.named_modules() if name]
    try:
        ways(model)[0](batch)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise UsageError(f"{reference} has no features of single positions", hint="leave --tokens out, or name a layer with --layer")
    return found[0]


def positions(out: Tensor) -> Tensor:
    """B C h w (or B h w C, told by which two sides are equal, else taken for the first), or B T D -> B T D."""
    if out.dim() == 3:
        return out
    if out.dim() != 4:
        raise UsageError(f"the layer gives {tuple(out.shape)}, neither vectors nor a map of them", hint="name another with --layer")
    _, a, b, c = out.shape
    return out.flatten(1, 2) if a == b and b != c else out.flatten(2).transpose(1, 2)


def grid(out: Tensor) -> tuple[Tensor, int, int]:
    """A layer's output -> (B h*w D, h, w); tokens in front of a square grid of patches are left out. Raises UsageError."""
    places = positions(out)
    if out.dim() == 4:
        _, a, b, c = out.shape
        return (places, a, b) if a == b and b != c else (places, b, c)
    side = int(torch.tensor(float(places.shape[1])).sqrt())
    front = places.shape[1] - side * side
    if front > 16:
        raise UsageError(f"{places.shape[1]} tokens are no square of patches", hint="name another layer with --layer")
    return places[:, front:], side, side
