"""Metrics, one a file; the directory is the list, and nothing is imported to make it.

A metric's file says in literals what it is: its KIND (which files it is measured of: `cvtool/tasks/evaluation/KIND.py`), ALIASES (further names),
KEYS (what it reports -> words) and LOWER (those of them where less is better). Its first docstring line explains it. A file without KIND, or one
whose name begins with an underscore, is no metric. Standard library only.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType

from cvtool.errors import UsageError, did_you_mean
from cvtool.literals import literal, summary


@dataclass(frozen=True)
class Metric:
    """One metric. name: the file's, with dashes; keys: what it reports -> words."""

    name: str
    kind: str
    summary: str
    aliases: tuple[str, ...] = ()
    keys: dict[str, str] = field(default_factory=dict)
    lower: tuple[str, ...] = ()

    def load(self) -> ModuleType:
        """Its module."""
        return importlib.import_module(f"{__name__}.{self.name.replace('-', '_')}")


@cache
def _of(stem: str) -> Metric | None:
    """The metric of one file, None where it is a helper or not there."""
    path = Path(__file__).with_name(f"{stem}.py")
    if stem.startswith("_") or not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    if (kind := literal(text, "KIND")) is None:
        return None
    aliases, keys, lower = literal(text, "ALIASES", ()), literal(text, "KEYS", {}), literal(text, "LOWER", ())
    return Metric(plain(stem), plain(kind), summary(path), tuple(aliases), keys, tuple(lower))


@cache
def catalogue() -> dict[str, Metric]:
    """Every metric by name, sorted."""
    found = (_of(path.stem) for path in sorted(Path(__file__).parent.glob("[!_]*.py")))
    return {metric.name: metric for metric in found if metric is not None}


def clashes() -> list[str]:
    """Names and aliases that two metrics claim; there should be none."""
    taken: dict[str, list[str]] = {}
    for metric in catalogue().values():
        for word in dict.fromkeys((metric.name, *map(plain, metric.aliases))):
            taken.setdefault(word, []).append(metric.name)
    return [f"{word}: {' and '.join(owners)}" for word, owners in taken.items() if len(owners) > 1]


@cache
def _names() -> dict[str, str]:
    """Name or alias -> name; and what only one metric reports, by its key."""
    keys: dict[str, set[str]] = {}
    for metric in catalogue().values():
        for key in metric.keys:
            keys.setdefault(plain(key), set()).add(metric.name)
    found = {key: next(iter(owners)) for key, owners in keys.items() if len(owners) == 1}
    for metric in catalogue().values():
        found |= dict.fromkeys(map(plain, metric.aliases), metric.name)
    return found | {name: name for name in catalogue()}


def plain(name: str) -> str:
    """A metric's name as it is compared: dashes and underscores are the same, capitals count nothing."""
    return name.strip().lower().replace("_", "-")


def find(name: str) -> Metric:
    """The metric of a name, an alias, or a key that it alone reports. Raises UsageError with a suggestion."""
    if (metric := _of(plain(name).replace("-", "_"))) is not None:  # by its file: the others need not be read
        return metric
    if (known := _names().get(plain(name))) is not None:
        return catalogue()[known]
    owners = [metric.name for metric in catalogue().values() if plain(name) in map(plain, metric.keys)]
    if owners:
        raise UsageError(f"'{name}' is reported by several metrics", hint=f"name one: {', '.join(owners)}")
    raise UsageError(f"unknown metric '{name}'", hint=did_you_mean(plain(name), _names()) or "`cvtool evaluate --list` shows all of them")


def words(keys: Sequence[str]) -> dict[str, str]:
    """Key -> what it means, for those of `keys` that metrics explain; where several report a key, of the metric that explains most of them."""
    best = sorted(catalogue().values(), key=lambda metric: sum(key in metric.keys for key in keys))
    return {key: text for metric in best for key, text in metric.keys.items() if key in keys}
