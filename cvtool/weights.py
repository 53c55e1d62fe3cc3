"""Weights: published, shipped or one's own; found, checked, and loaded into the model they belong to.

`load` turns a reference into a model that is ready, `build` into one that is ready to be trained, `locate` into the weights' file.
Reading and writing the files themselves is in `checkpoint.py`, getting them in `download.py`; their functions are offered here too.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvtool import download, registry
from cvtool.categories import NAMED, Categories, numbered
from cvtool.checkpoint import (
    Info,
    checkpoint_of,
    is_own,
    missing,
    read_foreign,
    read_info,
    read_prepare,
    read_tensors,
    save,
    versions,
    with_versions,
)
from cvtool.download import sha256
from cvtool.errors import ModelError, UsageError, did_you_mean
from cvtool.registry import Entry, Reference

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = [
    "Info", "build", "checkpoint_of", "default_categories", "facts_of", "fill", "is_own", "load", "locate", "named_categories", "read_foreign",
    "read_info", "read_prepare", "read_tensors", "renamed", "save", "sha256", "shipped_path", "versions",
]  # fmt: skip


# ---- finding -------------------------------------------------------------------------------------------------------


def facts_of(reference: Reference) -> dict[str, Any]:
    """What is known of the weights that a reference names (`WEIGHTS`, zoo/index.toml, or a source's `describe`); {} for none."""
    if reference.path is not None or reference.weights == "none" or reference.weights_path is not None:
        return {}
    if reference.source is not None:
        return registry.source(reference.source).describe(_tail(reference))
    entry = reference.entry
    return registry.weights_of(entry).get(reference.key, {}) if entry and reference.weights else {}


def locate(reference: Reference | str, *, offline: bool = False, progress: download.Progress | None = None) -> Path | None:
    """The file of a reference's weights, downloaded if no cache has it; None where it has none (`@none`, or a model without weights)."""
    reference = _parsed(reference)
    if reference.path is not None:
        return checkpoint_of(reference.path)
    if reference.weights_path is not None:
        if not reference.weights_path.is_file():
            raise missing(reference.weights_path)
        return reference.weights_path
    if (own := shipped_path(reference)) is not None:
        if not own.is_file():
            raise ModelError(f"{reference} is missing from this installation", where=own, hint="install cvtool again")
        return own
    facts = facts_of(reference)
    if not (download.address(facts) or facts.get("package")):
        return None
    return download.fetch(facts, name=str(reference), offline=offline, progress=progress)


def shipped_path(reference: Reference) -> Path | None:
    """Where the weights lie that come with the program; None for others."""
    facts = registry.shipped().get(str(reference)) if reference.path is None and reference.source is None else None
    return None if facts is None else registry.ZOO / facts.get("file", f"{reference}.safetensors")


def _parsed(reference: Reference | str) -> Reference:
    return registry.parse(reference) if isinstance(reference, str) else reference


def _tail(reference: Reference) -> str:
    """What a source is asked for: NAME or NAME@WEIGHTS."""
    return reference.name + (f"@{reference.weights}" if reference.weights and reference.weights != "none" else "")


# ---- building and loading ------------------------------------------------------------------------------------------


def build(reference: Reference | str, *, categories: Categories, **changes: Any) -> Any:
    """An untrained model for `categories`; `changes` are constructor arguments on top of the variant's (or of the checkpoint's)."""
    reference = _parsed(reference)
    if reference.path is not None:
        info = read_info(reference.path)
        reference, changes = registry.parse(info.reference.partition("@")[0]), {**info.arguments, **changes}
    return _construct(reference, categories, changes)


def _construct(reference: Reference, categories: Categories, changes: Mapping[str, Any], *, offline: bool = True) -> Any:
    if reference.source is not None:
        if changes:
            raise UsageError(f"{reference} takes no changes to its construction", where=", ".join(changes))
        model = registry.source(reference.source).build(reference.name, pretrained=False, classes=len(categories), offline=offline)
    else:
        entry = reference.entry
        assert entry is not None
        module = entry.load()
        arguments = {**entry.variants.get(reference.variant or "", {}), **changes}
        _check_arguments(entry, module.build, changes)
        model = module.build(classes=len(categories), **arguments)
    model.categories = list(categories)
    return model


def _check_arguments(entry: Entry, function: Callable[..., Any], changes: Mapping[str, Any]) -> None:
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [name for name in parameters if name != "classes"]
    for name in changes:
        if name not in known:
            hint = did_you_mean(name, known) or "its arguments: " + ", ".join(known)
            raise UsageError(f"{entry.name} cannot be built with '{name}'", hint=hint)


def load(
    reference: Reference | str,
    *,
    device: str | torch.device = "cpu",
    offline: bool = False,
    classes: int | None = None,
    progress: download.Progress | None = None,
) -> tuple[Any, Info]:
    """The model of a reference with its weights in, in eval mode on `device`, with `.categories` and `.prepare` set; and what is known of it.

    classes: build it for that many classes instead; tensors whose shapes differ for it (the head) keep their fresh values and are named in
    `Info.fresh`. `@none` gives the same untrained model each time. Raises ModelError (exit code 4) for weights that are missing, corrupt,
    refused or made for something else.
    """
    reference = _parsed(reference)
    if reference.source is not None:
        model, info = _from_source(reference, classes, offline, progress)
    elif reference.path is not None:
        info = read_info(reference.path)
        inner = registry.parse(info.reference.partition("@")[0])
        assert info.path is not None
        model, info = _filled(inner, info, info.path, classes, read_tensors(info.path))
    else:
        model, info = _from_entry(reference, classes, offline, progress)
    if hasattr(model, "to"):
        model.to(device)
    if hasattr(model, "eval"):
        model.eval()
    return model, info


def _from_source(reference: Reference, classes: int | None, offline: bool, progress: download.Progress | None) -> tuple[Any, Info]:
    assert reference.source is not None
    if (path := reference.weights_path) is not None:
        bare = replace(reference, weights="none")
        model, info = _from_source(bare, classes, offline, progress)
        fill(model, renamed(bare, read_foreign(path)), path, str(bare), strict=True)
        return model, replace(info, reference=str(reference), path=path, sha256=sha256(path))
    pretrained = reference.weights != "none"
    path = locate(reference, offline=offline, progress=progress) if pretrained else None
    with _seeded() if not pretrained else _uninitialised() if classes is None else nullcontext():
        model = registry.source(reference.source).build(_tail(reference), pretrained=pretrained, classes=classes, offline=offline)
    facts = facts_of(reference)
    name = facts.get("reference", str(reference)) if pretrained else str(reference)
    info = Info(reference=name, categories=model.categories, licence=facts.get("licence"), data=facts.get("data"), path=path)
    info = replace(info, metrics=facts.get("metrics") or {}, sha256=sha256(path) if path else None, fresh=getattr(model, "fresh", []))
    return model, replace(info, prepare=_prepare_of(model))


def _from_entry(reference: Reference, classes: int | None, offline: bool, progress: download.Progress | None) -> tuple[Any, Info]:
    entry, facts = reference.entry, facts_of(reference)
    assert entry is not None
    path = locate(reference, offline=offline, progress=progress)
    if path is not None and is_own(path):  # one of ours: it knows all itself
        info = read_info(path)
        info = replace(info, licence=info.licence or facts.get("licence"), metrics=info.metrics or facts.get("metrics", {}))
        inner = registry.parse(info.reference.partition("@")[0])
        if (inner.name, inner.variant) != (reference.name, reference.variant):
            raise ModelError(f"the checkpoint belongs to {inner.name}.{inner.variant}, not to {reference.name}.{reference.variant}", where=path)
        return _filled(inner, info, path, classes, read_tensors(path))
    info = Info(
        reference=str(reference),
        arguments=dict(facts.get("arguments", {})),
        categories=named_categories(facts.get("categories")) or default_categories(entry, reference.variant),
        licence=facts.get("licence"),
        data=facts.get("data"),
        metrics=dict(facts.get("metrics", {})),
        path=path,
        sha256=sha256(path) if path else None,
    )
    if path is not None:
        return _filled(reference, info, path, classes, None)
    if classes is not None and classes != len(info.categories):
        info = replace(info, categories=numbered(classes))
    with _seeded():
        model = _construct(reference, info.categories, info.arguments)
    if reference.weights is None and hasattr(model, "state_dict") and model.state_dict():
        have = ", ".join(f"{entry.name}.{key}" for key in registry.weights_of(entry))
        hint = f"{f'trained: {have}; or ' if have else ''}train it, or take {reference}@none, untrained"
        raise ModelError(f"{reference} has no trained weights", hint=hint)
    return model, replace(info, categories=model.categories, prepare=_prepare_of(model))


def _filled(reference: Reference, info: Info, path: Path, classes: int | None, state: dict[str, Tensor] | None) -> tuple[Any, Info]:
    """The model of `reference` with the tensors of `path` in it. `state` None: a foreign file, whose keys the model file may rename."""
    own = classes is None or classes == len(info.categories)
    try:
        with _uninitialised() if own else nullcontext():
            model = _construct(reference, info.categories if own else numbered(classes or 0), info.arguments)
    except (UsageError, TypeError, ValueError, RuntimeError) as error:
        if not info.arguments:
            raise
        what = f"{reference} cannot be rebuilt as the checkpoint says: {str(error).splitlines()[0]}"
        raise ModelError(what, where=path, hint="was it saved by another version?") from error
    if hasattr(model, "read_weights") and state is None:  # a system with a file format of its own
        model.read_weights(path)
    else:
        tensors = state if state is not None else renamed(reference, read_foreign(path))
        if hasattr(model, "resize_for"):  # arrays whose lengths only fitting knows
            model.resize_for(tensors)
        info = replace(info, fresh=fill(model, tensors, path, str(reference), strict=own))
    if info.prepare is not None and hasattr(model, "prepare"):
        model.prepare = read_prepare(info)
    return model, replace(info, categories=model.categories, prepare=_prepare_of(model))


def _prepare_of(model: Any) -> dict[str, Any] | None:
    prepare: Any = getattr(model, "prepare", None)
    return prepare.to_dict() if hasattr(prepare, "to_dict") else None


def renamed(reference: Reference, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state under the names of our model: by the model file's (or the source's) `rename(state) -> state`, where it has one."""
    entry = reference.entry
    module = entry.load() if entry else registry.source(reference.source) if reference.source else None
    if (hook := getattr(module, "rename", None)) is None:
        return state
    tensors = hook(state)
    return tensors if hasattr(tensors, "_metadata") or not hasattr(state, "_metadata") else with_versions(tensors, state._metadata)


def fill(model: Any, state: Mapping[str, Tensor], path: Path, name: str, *, strict: bool) -> list[str]:
    """Load `state`, every tensor of it; returns the names left fresh: with `strict=False`, those whose shapes differ.

    Modules rename what older versions of themselves have saved, as torch has it. Counters of batches that a norm has seen may be missing or
    too many: old files and frozen norms differ in them, and nothing reads them. Raises ModelError (exit code 4) that names the first tensors
    that do not fit.
    """
    from torch import nn

    own = model.state_dict()
    misfits = {k: f"{_shape(v)}, not {_shape(own[k])}" for k, v in state.items() if k in own and _shape(v) != _shape(own[k])}
    versions = (state if hasattr(state, "_metadata") else own)._metadata if hasattr(own, "_metadata") else None
    ready = with_versions({k: v for k, v in state.items() if k not in misfits}, versions)
    if isinstance(model, nn.Module):
        absent, unknown = model.load_state_dict(ready, strict=False)
    else:
        absent, unknown = [k for k in own if k not in ready], [k for k in ready if k not in own]
        if not absent and not unknown:
            model.load_state_dict(ready)
    problems = {
        "missing": {k: _shape(own[k]) for k in absent if k not in misfits and not k.endswith(".num_batches_tracked")},
        "unexpected": {k: _shape(state[k]) for k in unknown if not k.endswith(".num_batches_tracked")},
        "shape": misfits if strict else {},
    }
    if any(problems.values()):
        raise ModelError(f"the weights do not fit {name}: {explain(problems)}", where=path, hint=_advice(model, own, state, problems))
    return list(misfits)


def _shape(tensor: Any) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def explain(problems: Mapping[str, Mapping[str, str]], count: int = 3) -> str:
    """One line on the first few of each kind."""
    words = {"missing": "missing", "unexpected": "unknown to it", "shape": "of another shape"}
    parts = []
    for kind, found in problems.items():
        if found:
            some = ", ".join(f"{key} ({what})" for key, what in list(found.items())[:count])
            parts.append(f"{len(found)} {words[kind]}: {some}{', ...' if len(found) > count else ''}")
    return "; ".join(parts)


def _advice(model: Any, own: Mapping[str, Tensor], state: Mapping[str, Tensor], problems: Mapping[str, Mapping[str, str]]) -> str:
    if problems["missing"] or problems["unexpected"]:
        return "is it the file of another model or variant? `cvtool models list` shows all"
    count = len(model.categories)
    theirs = Counter(
        there * (count + extra) // here - extra  # `extra`: a background class on top
        for key in problems["shape"]
        if own[key].ndim == 1 and state[key].ndim == 1
        for here, there in [(len(own[key]), len(state[key]))]
        for extra in (0, 1)
        if here % (count + extra) == 0 and there * (count + extra) % here == 0
    )
    other = f"{theirs.most_common(1)[0][0]}" if theirs else "others"
    return f"the model has {count} classes, the file {other}: `cvtool models import FILE --as NAME --categories names.txt -o X.safetensors`"


def default_categories(entry: Entry, variant: str | None) -> Categories:
    """What an untrained variant has: the categories of its first weights, of the model's first, the file's `CATEGORIES`, else a single one."""
    for key, facts in sorted(registry.weights_of(entry).items(), key=lambda item: item[0].partition("@")[0] != variant):
        if key and facts.get("categories"):
            return named_categories(facts["categories"])
    return named_categories(getattr(entry.load(), "CATEGORIES", 1))


def named_categories(value: Any) -> Categories:
    """`categories` of a WEIGHTS entry: a name ("coco", "coco-91" ...), a count, a list of names, or categories word for word."""
    if value is None:
        return []
    if isinstance(value, str):
        if value not in NAMED:
            raise ModelError(f"unknown categories '{value}'", hint=did_you_mean(value, NAMED) or "known: " + ", ".join(NAMED))
        return NAMED[value]()
    if isinstance(value, int):
        return numbered(value)
    return [{"id": i, "name": item} if isinstance(item, str) else item for i, item in enumerate(value, 1)]


@contextmanager
def _seeded() -> Iterator[None]:
    """Untrained models are the same each time, and no one else's random numbers move."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


_DRAWS = {"uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_"}


@contextmanager
def _uninitialised() -> Iterator[None]:
    """Parameters are not drawn at random while every one is about to be overwritten: half a second less for a ResNet-50 detector."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Skip(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            tensor = args[0] if args else (kwargs or {}).get("tensor")
            if getattr(func, "__name__", "") in _DRAWS and isinstance(tensor, torch.nn.Parameter):
                return tensor
            return func(*args, **(kwargs or {}))

    with Skip():
        yield
