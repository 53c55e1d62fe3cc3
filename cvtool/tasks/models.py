"""Models and their weights: listed, shown, fetched, checked, imported. Nothing here imports torch but `imported`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvtool import registry
from cvtool.errors import CvtoolError, InputError, ModelError, UsageError, did_you_mean
from cvtool.registry import Entry, Reference

if TYPE_CHECKING:
    from torch import Tensor

    from cvtool.categories import Categories
    from cvtool.checkpoint import Info
    from cvtool.download import Progress

Say = Callable[[str], None]  # takes a line for a person


# ---- names ---------------------------------------------------------------------------------------------------------


def names(prefix: str = "") -> list[str]:
    """References that begin with `prefix`, for completion: models, variants and aliases; weights after an @, a source's own after its colon."""
    world, colon, rest = prefix.partition(":")
    if colon and world in registry.sources():
        return [f"{world}:{name}" for name in registry.source(world).names() if name.startswith(rest)]
    known = registry.names()
    if "@" in prefix:
        known = [f"{entry.name}.{key}" for entry in registry.catalogue().values() for key in registry.weights_of(entry)]
        known += [f"{entry.name}@{key.partition('@')[2]}" for entry in registry.catalogue().values() for key in registry.weights_of(entry)]
    found = [name for name in dict.fromkeys(known) if name.startswith(prefix)]
    return found + [f"{world}:" for world in registry.sources() if f"{world}:".startswith(prefix) and "@" not in prefix]


def listing(source: str | None = None, *, verb: str | None = None) -> Iterator[dict[str, Any]]:
    """One dict a model: name, verbs, variants, weights, summary (and path). With `source`, that source's models.

    Raises UsageError for a verb that no model has, ModelError for an unknown source.
    """
    entries = registry.catalogue().values()
    verbs = {v for entry in entries for v in entry.verbs} | {v for world in registry.sources() for v in _verbs_of(world)}
    if verb is not None and verb not in verbs:
        raise UsageError(f"no model has the verb '{verb}'", hint=did_you_mean(verb, verbs) or "verbs: " + ", ".join(sorted(verbs)))
    if source is not None:
        world = source.rstrip(":")
        module = registry.source(world)
        if verb is None or verb in module.VERBS:
            for name in module.names():
                yield {"name": f"{world}:{name}", "verbs": list(module.VERBS)}
        return
    for entry in entries:
        if verb is None or verb in entry.verbs:
            yield {
                "name": entry.name,
                "verbs": list(entry.verbs),
                "variants": list(entry.variants),
                "weights": list(registry.weights_of(entry)),
                "summary": entry.summary,
                "path": str(entry.path),
            }


def _verbs_of(world: str) -> tuple[str, ...]:
    with suppress(CvtoolError):  # a plugin that is broken says so where it is asked for
        return tuple(registry.source(world).VERBS)
    return ()


# ---- one model -----------------------------------------------------------------------------------------------------


def show(text: str) -> dict[str, Any]:
    """All that is known of a model, of one set of its weights, or of a checkpoint; plain JSON."""
    reference = registry.parse(text)
    if reference.path is not None:
        return _checkpoint(reference.path)
    if reference.source is not None:
        return _of_source(reference)
    entry = reference.entry
    assert entry is not None
    whole = text.lower().replace("_", "-") == entry.name  # else one variant of it, or one set of weights
    shown: dict[str, Any] = {"name": entry.name} if whole else {"name": entry.name, "reference": str(reference)}
    shown |= {"verbs": list(entry.verbs), "summary": entry.summary}
    if paper := re.search(r"arXiv:\d{4}\.\d{4,5}", entry.summary):
        shown["paper"] = f"https://arxiv.org/abs/{paper[0][6:]}"
    shown |= {"file": str(entry.path), "variants": {k: v for k, v in entry.variants.items() if whole or k == reference.variant}}
    if whole and (aliases := [alias for alias, full in registry.aliases().items() if full.partition(".")[0] == entry.name]):
        shown["aliases"] = aliases
    own = {
        k: v
        for k, v in registry.weights_of(entry).items()
        if whole or k == reference.key or ("@" not in text and k.startswith(f"{reference.variant}@"))
    }
    if whole and (arguments := entry.arguments):
        shown["arguments"] = arguments
    shown["weights"] = {f"{entry.name}.{key}": _facts(_keyed(entry, key), facts) for key, facts in own.items()}
    return shown | ({"recipe": entry.recipe} if entry.recipe else {})


def _keyed(entry: Entry, key: str) -> Reference:
    variant, _, weights = key.partition("@")
    return Reference(entry.name, variant, weights)


def _facts(reference: Reference, facts: dict[str, Any]) -> dict[str, Any]:
    """What is stated of published weights, and the file where it is on this machine."""
    from cvtool import download, weights

    shown = dict(facts)
    path = weights.shipped_path(reference) or next(iter(download.cached(facts)), None)
    if path is None:
        return shown | {"path": None}
    if path.is_file() and "sha256" in facts and len(facts["sha256"]) < 64:
        record = download.recorded(path)
        shown["sha256"] = record["sha256"] if record else facts["sha256"]
    return shown | {"path": str(path)}


def _of_source(reference: Reference) -> dict[str, Any]:
    from cvtool import weights

    bare = registry.source(reference.source or "").describe(reference.name) if reference.weights == "none" else weights.facts_of(reference)
    return {"name": str(reference), "verbs": list(registry.source(reference.source or "").VERBS), **_facts(reference, bare)}


def _checkpoint(path: Path) -> dict[str, Any]:
    from cvtool import weights

    info = weights.read_info(path)
    assert info.path is not None
    categories = [category for category in info.categories if category]
    return {"path": str(info.path), "bytes": info.path.stat().st_size, "sha256": info.sha256, **info.to_dict(), "categories": categories}


# ---- fetching and checking -----------------------------------------------------------------------------------------


def pull(references: list[str], *, offline: bool = False, progress: Progress | None = None) -> Iterator[dict[str, Any]]:
    """Have the weights of every reference on this machine: one dict each, with `error` where that failed. Unknown names are refused first."""
    from cvtool import weights

    for reference in [registry.parse(text) for text in references]:
        try:
            path = weights.locate(reference, offline=offline, progress=progress)
        except ModelError as error:
            yield {"reference": str(reference), "error": error}
            continue
        facts = weights.facts_of(reference)
        found = {"reference": facts.get("reference", str(reference)), "path": str(path) if path else None, "licence": facts.get("licence")}
        yield found | {"sha256": weights.sha256(path) if path else None}


def verify(references: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Hash files again, from their bytes: those of the references, or all that ship, lie in cvtool's cache or belong to a known model.

    One dict a file: path, reference (if known), sha256, expected (a hash or its beginning, None where nothing was ever stated), state: "ok",
    "damaged", "unknown" (nothing to compare with) or "missing" (a reference whose weights are not here).
    """
    from cvtool import download, weights

    chosen = [registry.parse(text) for text in references or ()]
    every = [_keyed(e, key) for e in registry.catalogue().values() for key in registry.weights_of(e)]
    done: set[Path] = set()
    for reference in chosen or every:
        facts = weights.facts_of(reference)
        if reference.path is not None:
            paths, facts = [weights.checkpoint_of(reference.path)], {}
        else:
            shipped = weights.shipped_path(reference)
            paths = [shipped] if shipped else download.cached(facts)
        if not paths and chosen:
            yield {"reference": str(reference), "path": None, "state": "missing"}
        for path in paths:
            if path not in done:
                done.add(path)
                yield {"reference": str(reference), **_verified(path, facts.get("sha256"))}
    if not chosen:
        folder = download.cache_dir() / "weights"
        for path in sorted(folder.iterdir() if folder.is_dir() else ()):
            if path not in done and path.suffix not in (".part", ".lock", ".sha256") and not path.name.startswith("."):
                yield {"reference": None, **_verified(path, None)}


def _verified(path: Path, stated: str | None) -> dict[str, Any]:
    from cvtool import download

    if not path.is_file():
        return {"path": str(path), "state": "missing"}
    digest, record = download.hash_file(path), download.recorded(path)
    ours = record is not None and download.record_path(path).parent == path.absolute().parent
    expected = record["sha256"] if record and ours else stated
    fits = digest.startswith(stated or "") and digest.startswith(expected or "")
    return {"path": str(path), "sha256": digest, "expected": expected, "state": "unknown" if not expected else "ok" if fits else "damaged"}


# ---- importing -----------------------------------------------------------------------------------------------------


def imported(
    file: Path,
    name: str,
    output: Path,
    *,
    categories: str | None = None,
    licence: str | None = None,
    half: bool = False,
    command: str | None = None,
    say: Say = lambda line: None,
) -> Path:
    """Turn somebody else's weights into a checkpoint of ours that says what it is; or give one of ours another name, licence or precision.

    file: what torch or safetensors wrote, a checkpoint of ours, or a run folder. name: the model they belong to, as NAME[.VARIANT] or
    SOURCE:NAME. categories: "coco", "voc" ..., a text file with a name a line, or a JSON file with COCO categories; without it, the checkpoint's
    own, else the model's published ones. A checkpoint of ours keeps all else that it says of itself. Raises ModelError (exit code 4) where any
    tensor is missing, unknown or misshapen.
    """
    from cvtool import weights
    from cvtool.categories import numbered

    reference = registry.parse(name)
    if reference.path is not None or reference.weights_path is not None:
        raise UsageError(f"--as takes a model's name, not a file: {name}", hint="for example --as faster-rcnn.resnet50")
    bare = replace(reference, weights=None)
    plain = str(bare)
    file = weights.checkpoint_of(file)
    own = weights.is_own(file)
    said = weights.read_info(file) if own else weights.Info(command=command, data={"imported": file.name, "sha256": weights.sha256(file)})
    arguments = _arguments_as(bare, said, file) if own else {}
    meant = read_categories(categories) if categories else said.categories if own else _published(reference)
    try:
        model = weights.build(bare, categories=meant or numbered(1), **arguments)
    except (UsageError, TypeError, ValueError, RuntimeError) as error:
        if not arguments:
            raise
        what = f"{plain} cannot be built as the checkpoint says: {str(error).splitlines()[0]}"
        raise ModelError(what, where=file, hint="was it saved by another version?") from error
    if not hasattr(model, "state_dict"):
        raise UsageError(f"{plain} has no tensors to import", hint=f"use the file as it is: -m {reference.name}@{file}")
    if not meant and hasattr(model, "categories"):
        model.categories = []
    state = weights.read_tensors(file) if own else weights.read_foreign(file)
    tensors = state if own else weights.renamed(reference, state)
    weights.fill(model, tensors, file, plain, strict=True)
    moved, dropped = _differences(state, tensors, model.state_dict())
    for before, after in moved[:3]:
        say(f"renamed {before} -> {after}")
    left = f": {', '.join(dropped[:3])}" if dropped else ""
    say(f"{len(tensors)} tensors, {len(moved)} renamed, {len(dropped)} left out{left}; {len(meant)} classes")
    said = replace(said, prepare=weights.read_prepare(said))
    found = replace(said, reference=plain, arguments=arguments, categories=meant, licence=licence or said.licence)
    return weights.save(model, output, found, half=half)


def _arguments_as(wanted: Reference, said: Info, file: Path) -> dict[str, Any]:
    """What a checkpoint of ours was built with, as changes to the variant it is to be called after. Raises ModelError if it is another model's."""
    own = registry.parse(said.reference.partition("@")[0])
    if (own.source, own.name) != (wanted.source, wanted.name):
        theirs = replace(own, weights=None)
        raise ModelError(f"the checkpoint belongs to {theirs}, not to {wanted}", where=file, hint=f"--as {theirs}")
    if own.variant == wanted.variant or own.entry is None:
        return said.arguments
    variants = own.entry.variants
    whole = {**variants.get(own.variant or "", {}), **said.arguments}
    base = variants.get(wanted.variant or "", {})
    return {key: value for key, value in whole.items() if key not in base or base[key] != value}


def _differences(file: Mapping[str, Tensor], named: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> tuple[list[tuple[str, str]], list[str]]:
    """(renamed: name in the file -> in the model, left out: names in the file), by the model file's `rename` and by torch's own modules."""
    after = {id(value): key for key, value in named.items()}
    moved, dropped = [], []
    absent = [key for key in model if key not in named]
    for key, value in file.items():
        name = after.get(id(value))
        if name is not None and name not in model:  # a module has renamed what an older version of itself had saved
            name = next((k for k in absent if model[k].shape == value.shape and bool((model[k] == value).all())), None)
        if name is None:
            dropped.append(key)
        elif name != key:
            moved.append((key, name))
    return moved, dropped


def _published(reference: Reference) -> Categories:
    from cvtool import weights
    from cvtool.categories import numbered

    if reference.entry is None:
        facts = registry.source(reference.source or "").describe(reference.name)
        return numbered(int(facts.get("classes", 1000)))
    return weights.default_categories(reference.entry, reference.variant)


def read_categories(text: str) -> Categories:
    """ "coco", "coco-91", "voc" ...; or a file: COCO JSON with `categories` (their ids are kept), or a name a line (ids 1, 2 ...)."""
    from cvtool.categories import NAMED

    path = Path(text)
    if text in NAMED:
        return NAMED[text]()
    if not path.is_file():
        raise UsageError(f"unknown categories '{text}'", hint=did_you_mean(text, NAMED) or f"a file, or one of {', '.join(NAMED)}")
    try:
        content = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".json":
            document = json.loads(content)
            listed = document["categories"] if isinstance(document, dict) else document
            return [{**category, "id": int(category["id"]), "name": str(category["name"])} for category in sorted(listed, key=lambda c: c["id"])]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("no COCO categories in it", where=path) from error
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    if not lines:
        raise InputError("no names in it", where=path)
    return [{"id": i, "name": line} for i, line in enumerate(lines, 1)]
