"""What a library says about its weights, from its model files' tables, without importing the library: no torch either.

timm and torchvision keep the facts of their weights (address, licence, input size) in module-level tables beside the networks. Only those
statements are run, each for itself and with stand-ins for the names that would need the library; one that does not run is left out. Reading a large
library takes a third of a second, so the outcome is kept as JSON in the cache folder, one file a library version.
"""

from __future__ import annotations
import __future__

import importlib.metadata
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from cvtool import __version__
from cvtool.download import cache_dir
from cvtool.errors import MissingDependency


def folder_of(package: str) -> Path:
    """Where an installed package's files lie. Raises MissingDependency."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency(f"{package} is not installed", hint=f"pip install {package}")
    return Path(next(iter(spec.submodule_search_locations)))


def index(package: str, scan: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """`scan()`, or what it gave before for this version of the package."""
    return _index(package, scan, cache_dir())


@cache
def _index(package: str, scan: Callable[[], dict[str, Any]], folder: Path) -> dict[str, Any]:
    place = str(folder_of(package))
    path = folder / "index" / f"{package}-{importlib.metadata.version(package)}-{__version__}.json"
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("//") == place:  # another environment may hold a patched copy of the same version
            return found
    found = json.loads(json.dumps(scan()))  # the same types at every call
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(json.dumps({"//": place, **found}), encoding="utf-8")
        draft.replace(path)
    return found


def statements(text: str, wanted: re.Pattern[str]) -> Iterator[str]:
    """The text of the top-level statements whose beginning matches, without their decorators."""
    for piece in re.split(r"^(?=[A-Za-z_@])", text, flags=re.MULTILINE):
        if wanted.match(piece):
            yield piece


def run(text: str, wanted: re.Pattern[str], names: Mapping[str, Any]) -> dict[str, Any]:
    """The names that those statements define, given `names`. It is text of an installed package, trusted as an import of it would be."""
    space = dict(names)
    for piece in statements(text, wanted):
        with suppress(Exception):
            exec(compile(piece, "<table>", "exec", flags=__future__.annotations.compiler_flag), space)
    return space
