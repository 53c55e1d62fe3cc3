"""What of a model learns, and how fast: freezing, the last stages alone, a tenth of the rate for what was learned before, rates that fall with depth.

The head is what changes shape with the number of classes; everything else may come from another data set. Stages are a network's parts in their
order from the picture to the head (ResNet: stem, layer1 ... layer4; ViT: its blocks; VGG: each convolution).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from cvtool import weights
from cvtool.categories import numbered
from cvtool.errors import UsageError

FEW = 4  # a module with fewer trained parts is looked into: its parts are no stages yet
ALL_BUT_HEAD = "all-but-head"


def head_of(model: nn.Module, reference: str, arguments: Mapping[str, Any]) -> list[str]:
    """Names of the parameters whose shape depends on the number of classes; [] where none does."""
    import torch

    own = {name: parameter.shape for name, parameter in model.named_parameters()}
    with torch.device("meta"):
        other = weights.build(reference, categories=numbered(len(model.categories) + 1), **arguments)  # type: ignore[arg-type]
    return [name for name, parameter in other.named_parameters() if name in own and own[name] != parameter.shape]


def stages(model: nn.Module, head: Sequence[str] = ()) -> list[list[str]]:
    """Parameter names, a list a stage, from input to output, without those of the head.

    What lies before the first stage of several layers (a stem's convolution and its norm) is part of the first stage.
    """
    found: list[list[str]] = []
    for prefix, module in _parts("", model):
        names = [prefix] if isinstance(module, nn.Parameter) else [f"{prefix}.{name}" for name, _ in module.named_parameters()]
        names = [name for name in names if name not in head]
        norm = not isinstance(module, nn.Parameter) and all(parameter.ndim < 2 for parameter in module.parameters())
        if names and found and (norm or isinstance(module, nn.Parameter)):
            found[-1] += names  # a norm belongs to the layer before it
        elif names:
            found.append(names)
    return found


def _parts(prefix: str, module: nn.Module) -> list[tuple[str, nn.Module | nn.Parameter]]:
    """Trained parts in their order, containers of few parts taken apart."""
    own: list[tuple[str, nn.Module | nn.Parameter]] = [(_join(prefix, name), p) for name, p in module.named_parameters(recurse=False)]
    children = [(name, child) for name, child in module.named_children() if next(child.parameters(), None) is not None]
    found = own
    for name, child in children:
        inner = [c for c in child.children() if next(c.parameters(), None) is not None]
        holds_list = isinstance(child, nn.ModuleList) or any(isinstance(c, nn.ModuleList) for c in inner)  # a transformer's blocks
        if inner and (holds_list or len(children) < FEW):
            found += _parts(_join(prefix, name), child)
        else:
            found.append((_join(prefix, name), child))
    return found


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def freeze(model: nn.Module, recipe: Mapping[str, Any], head: Sequence[str]) -> tuple[int, int]:
    """Set what learns by the recipe's `freeze` and `unfreeze`; (trained, all) numbers of parameters' values.

    freeze: names joined by commas: `all-but-head`, `stages:N` (the first N), or patterns of parameter names (`net.layer1*`).
    unfreeze: N > 0: the head and the last N stages learn, and nothing else. Raises UsageError for a name that fits nothing.
    """
    parts = stages(model, head)
    names = [name for name, _ in model.named_parameters()]
    frozen: set[str] = set()
    if recipe["unfreeze"]:
        if recipe["freeze"].lower().replace("_", "-") not in ("", ALL_BUT_HEAD):
            raise UsageError("--unfreeze says what learns, --freeze what does not", hint="leave one of them out")
        count = recipe["unfreeze"]
        if count > len(parts):
            raise UsageError(f"--unfreeze {count}: the model has {len(parts)} stages", hint="leave it out to train all of them")
        frozen = {name for part in parts[: len(parts) - count] for name in part}
    else:
        for word in filter(None, (piece.strip() for piece in recipe["freeze"].split(","))):
            frozen |= _named(word, names, parts, head)
    if frozen and not head and (recipe["unfreeze"] or ALL_BUT_HEAD in recipe["freeze"].lower().replace("_", "-")):
        raise UsageError("this model has no head: nothing of it depends on the classes", hint="--freeze stages:N, or a pattern of parameter names")
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    model.frozen = frozenset(frozen)  # type: ignore[assignment]
    values = dict(model.named_parameters())
    return sum(p.numel() for p in values.values() if p.requires_grad), sum(p.numel() for p in values.values())


def _named(word: str, names: Sequence[str], parts: Sequence[Sequence[str]], head: Sequence[str]) -> set[str]:
    if word.lower().replace("_", "-") == ALL_BUT_HEAD:
        return set(names) - set(head)
    if word.startswith("stages:"):
        count = word.partition(":")[2]
        if not count.isdecimal() or not 0 < int(count) <= len(parts):
            raise UsageError(f"--freeze {word}: the model has {len(parts)} stages", hint=f"stages:1 ... stages:{len(parts)}")
        return {name for part in parts[: int(count)] for name in part}
    found = {name for name in names if fnmatch.fnmatchcase(name, word) or name.startswith(word + ".")}
    if not found:
        some = sorted({name.rpartition(".")[0] for name in names})
        raise UsageError(f"--freeze {word} fits no parameter", hint=f"all-but-head, stages:N, or a pattern of {', '.join(some[:4])}, ...")
    return found


def training(model: nn.Module) -> None:
    """Training mode, but for what is frozen whole: the running statistics of its norms stay, too."""
    model.train()
    frozen: frozenset[str] = getattr(model, "frozen", frozenset())
    for prefix, module in model.named_modules() if frozen else ():
        own = [_join(prefix, name) for name, _ in module.named_parameters()]
        if own and frozen.issuperset(own):
            module.eval()


def groups(model: nn.Module, recipe: Mapping[str, Any], head: Sequence[str], loaded: Sequence[str] = ()) -> list[dict[str, Any]] | None:
    """Groups for the optimiser with rates of their own; None where all learn at the same rate.

    lr_scale: factor for the parameters in `loaded`, which have been learned before. layer_decay: d^k for the k-th stage from the end, the
    head at 1 (Clark 2020, arXiv:2003.10555, appendix; Bao 2021, arXiv:2106.08254). Raises UsageError for a scale where nothing was loaded.
    """
    scale, decay, rate = recipe["lr_scale"], recipe["layer_decay"], recipe["lr"]
    if scale != 1 and not loaded:
        raise UsageError("--lr-scale has no effect: no weights were loaded", hint="it goes with --init, or a model with trained weights")
    if scale == 1 and decay == 1:
        return None
    factors = dict.fromkeys((name for name, _ in model.named_parameters()), 1.0)
    if decay != 1:
        for depth, part in enumerate(reversed(stages(model, head)), 1):
            factors |= dict.fromkeys(part, decay**depth)
    for name in loaded:
        if name in factors and name not in head:
            factors[name] *= scale
    by_rate: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            by_rate.setdefault(rate * factors[name], []).append(parameter)
    return [{"params": members, "lr": value} for value, members in sorted(by_rate.items(), reverse=True)]
