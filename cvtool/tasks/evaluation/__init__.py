"""Kinds of evaluation, one a file: how both sides are read, paired and checked, and which metrics are measured of them.

`KIND.py` offers

    score(gt, dt, *, metrics: list[Call], options: Options) -> Measured

gt and dt are what the user named: paths, "-" for stdin, or a `cvtool.data.sides.Side` where the ground truth had to be read to know its kind.
`metrics` are the calls of --metric, by the names of the metrics' files with dashes; none: the kind's defaults. Literals say what else there is:

    OPTIONS = {"classes": "", "extractor": "Features by this model.", "fast": ("Without ...", False), "size": ("Pixels of a side.", 299)}
    FITS = (".tsv", "folder")     # what its ground truth looks like, where looking alone does not tell the kind: suffixes, "folder", or
                                  # "pictures", a folder of pictures and nothing about them

OPTIONS names every option that the kind reads: fields of `Options`, and its own, which come in `options.extra` by the same key (None or the default
where not given) and are `--extractor`, `--size` on the command line: text, or of the default's type. Whatever else is given is refused as having no
effect. Files that begin with an underscore are helpers. The list is made without importing a kind.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from cvtool.errors import UsageError
from cvtool.literals import literal, summary


@dataclass
class Options:
    """What was asked for beside the metrics; None (or the default) where it was not. extra: options of single kinds, by their own names."""

    classes: Sequence[str | int] | None = None
    per_class: bool = False
    split: str | None = None
    data_format: str | None = None
    iou_type: str | None = None
    max_det: int | None = None
    backend: str = "auto"
    slices: bool = False
    stdin: IO[bytes] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def given(self) -> list[str]:
        """The names of all options that are not as they come."""
        own = [f.name for f in fields(self) if f.name not in ("extra", "stdin", "slices") and getattr(self, f.name) != f.default]
        return own + [key for key, value in self.extra.items() if value is not None]


@dataclass(frozen=True)
class Own:
    """An option of a kind: words for it, and its default (None: text)."""

    help: str
    default: Any
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """One kind of evaluation. own: its options beyond the fields of `Options`, name -> (words, default)."""

    name: str
    summary: str
    takes: tuple[str, ...]
    own: dict[str, tuple[str, Any]]
    fits: tuple[str, ...]

    def load(self) -> ModuleType:
        """Its module."""
        return importlib.import_module(f"{__name__}.{self.name.replace('-', '_')}")


@cache
def kinds() -> dict[str, Kind]:
    """Every kind by name, sorted."""
    shared = {f.name for f in fields(Options)}
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        text = path.read_text(encoding="utf-8")
        options = literal(text, "OPTIONS", {})
        own = {key: (value if isinstance(value, tuple) else (value, None)) for key, value in options.items() if key not in shared}
        name = path.stem.replace("_", "-")
        found[name] = Kind(name, summary(path), tuple(options), own, tuple(literal(text, "FITS", ())))
    return found


@cache
def own_options() -> dict[str, Own]:
    """The options that single kinds declare, by name. Raises ValueError where two kinds mean different types by one name."""
    found: dict[str, Own] = {}
    for kind in kinds().values():
        for key, (words, default) in kind.own.items():
            if key in found and found[key].default != default:
                raise ValueError(f"the option {key} is declared with two defaults, by {found[key].kinds[0]} and {kind.name}")
            found[key] = Own(found[key].help if key in found else words, default, (*(found[key].kinds if key in found else ()), kind.name))
    return found


def refuse_without_effect(kind: Kind, options: Options, why: str) -> None:
    """Raises UsageError for the first option given that this kind does not read; why: it is this kind."""
    for name in options.given():
        if name not in kind.takes:
            takers = [other.name for other in kinds().values() if name in other.takes]
            hint = f"it is for {', '.join(takers)}; leave it out" if takers else "no kind of evaluation knows it"
            raise UsageError(f"--{name.replace('_', '-')} has no effect: {why}", hint=hint)
