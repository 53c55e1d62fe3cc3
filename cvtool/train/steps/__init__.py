"""Training methods, one a file: `make(model, recipe) -> Step`."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from cvtool.errors import UsageError, did_you_mean


def names() -> list[str]:
    return sorted(path.stem.replace("_", "-") for path in Path(__file__).parent.glob("[!_]*.py"))


def get(name: str) -> ModuleType:
    """The module of one method. Raises UsageError with the right names for a wrong one."""
    if name not in names():
        raise UsageError(f"unknown training step '{name}'", hint=did_you_mean(name, names()) or "steps: " + ", ".join(names()))
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
