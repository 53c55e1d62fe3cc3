"""Documents that hold what was read on pages: the directory is the list.

A file of this folder has a DESCRIPTION (one line), SUFFIX (of the document's name, behind the picture's stem), sometimes PREFIX (before it), MANY
(whether one document may hold several pages) and

    write(pages, out) -> None                  the whole document as bytes, UTF-8 where it is text
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

from cvtool.errors import UsageError, did_you_mean


@cache
def names() -> list[str]:
    """Every kind of document, sorted."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def get(name: str) -> ModuleType:
    """The module that writes it. Raises UsageError with a suggestion for an unknown name."""
    plain = name.strip().lower().replace("_", "-")
    if plain not in names():
        raise UsageError(f"unknown format '{name}'", hint=did_you_mean(plain, names()) or "the formats are: " + ", ".join(names()))
    return importlib.import_module(f"{__name__}.{plain}")


def by_suffix(path: Path) -> str | None:
    """The kind of document that a file's name tells, the longest ending first; None where it tells none."""
    endings = sorted(((get(name).SUFFIX, name) for name in names() if not getattr(get(name), "PREFIX", "")), key=lambda pair: -len(pair[0]))
    return next((name for suffix, name in endings if path.name.lower().endswith(suffix)), None)
