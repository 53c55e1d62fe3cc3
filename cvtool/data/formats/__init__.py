"""Data set formats: the directory is the list, and `recognise` tells which one a path is.

A format file has a DESCRIPTION (one line), SUFFIX (".json", or None for a folder), ORDER (its place in the recognition), and

    recognises(path) -> bool
    splits(path) -> list[str]                                   names, [] where the format has none
    categories(path) -> list[dict]                              what the data set declares
    read(path, *, images=None, split=None) -> Iterator[Record]  lazy; names may not leave the data root
    write(records, out, **options) -> list[str]                 notes: what this format cannot hold, one line each
    HOLDS, HOLDS_OF_OBJECTS                                     sets of a record's and an annotation's keys; absent: all of them
    FALLBACK = True                                             asked only where no other format fits

Plugins add formats through the entry-point group `cvtool.formats` (name -> module).
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from cvtool.errors import InputError, UsageError, did_you_mean


@cache
def names() -> list[str]:
    """Every format's name, sorted."""
    own = (path.stem.replace("_", "-") for path in Path(__file__).parent.glob("[!_]*.py"))
    return sorted({*own, *(point.name for point in entry_points(group="cvtool.formats"))})


@cache
def get(name: str) -> ModuleType:
    """The format's module. Raises UsageError with a suggestion for an unknown name."""
    plain = name.lower().replace("_", "-")
    if plain in names():
        if Path(__file__).with_name(f"{plain.replace('-', '_')}.py").exists():
            return importlib.import_module(f"{__name__}.{plain.replace('-', '_')}")
        try:
            return next(point for point in entry_points(group="cvtool.formats") if point.name == plain).load()
        except Exception as error:
            what = f"the format {plain} does not load: {type(error).__name__}: {error}"
            raise UsageError(what, hint="repair or uninstall the plugin that brings it") from error
    raise UsageError(f"unknown format '{name}'", hint=did_you_mean(plain, names()) or "the formats are: " + ", ".join(names()))


def recognise(path: str | Path) -> str:
    """The name of the one format that a file or folder is in.

    Raises UsageError where two fit (naming --data-format) and InputError where the path is missing or none fits.
    """
    path = Path(path)
    if not path.exists() and not get("webdataset").recognises(path):  # it knows patterns
        raise InputError("no such file or folder", where=path)
    modules = sorted(_usable().values(), key=lambda module: getattr(module, "ORDER", 99))
    fits = [module for module in modules if not getattr(module, "FALLBACK", False) and _recognises(module, path)]
    if not fits and not list(path.glob("*.json")):
        fits = [module for module in modules if getattr(module, "FALLBACK", False) and _recognises(module, path)][:1]
    if not fits:
        if inside := sorted(path.glob("*.json"))[:1] or sorted(path.glob("annotations/*.json"))[:1]:
            raise InputError("a folder is no COCO data set by itself", where=path, hint=f"name the annotation file, such as {inside[0]}")
        if (only := get("folder").only_class(path)) is not None:
            hint = "a classifier tells classes apart: put pictures of another class into a folder beside it; "
            hint += "for a model that learns from pictures alone, say --data-format pictures"
            raise InputError("pictures of one class only", where=only, hint=hint)
        if path.is_file() and not path.stat().st_size:
            raise InputError("the file is empty", where=path)
        raise InputError("not a data set in any known format", where=path, hint="known: " + ", ".join(map(_name, modules)))
    if len(fits) > 1:
        both = " and ".join(_name(module) for module in fits)
        raise UsageError(f"{path} could be {both}", hint="say which with --data-format " + " or ".join(_name(module) for module in fits))
    return _name(fits[0])


def _recognises(module: ModuleType, path: Path) -> bool:
    try:
        return module.recognises(path)
    except OSError as error:
        raise InputError(f"cannot read it: {error.strerror or error}", where=path) from error


def _name(module: ModuleType) -> str:
    return next(name for name, other in _usable().items() if other is module)


def _usable() -> dict[str, ModuleType]:
    """Every format that loads; a broken plugin is told of where it is asked for by name."""
    found = {}
    for name in names():
        with suppress(UsageError):
            found[name] = get(name)
    return found
