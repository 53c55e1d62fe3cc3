"""Training methods, one a file: `make(model, recipe, *, offline=False) -> Step`.

A method's own settings stand in its file as a literal, `SETTINGS = {"teacher": "", "temperature": 4.0}` (name -> default, whose kind is the setting's
kind): keys of the recipe that are valid with `step = NAME` alone. They are read from the source text, so that a wrong option costs no import.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cvtool.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from cvtool.train.step import Step


def names() -> list[str]:
    return sorted(path.stem.replace("_", "-") for path in Path(__file__).parent.glob("[!_]*.py"))


def get(name: str) -> ModuleType:
    """The module of one method. Raises UsageError with the right names for a wrong one."""
    return importlib.import_module(f"{__name__}.{_stem(name)}")


def make(model: nn.Module, recipe: Mapping[str, Any], *, offline: bool = False) -> Step:
    """The step that a recipe names, around a model."""
    function = get(recipe["step"]).make
    return function(model, recipe, **({"offline": offline} if "offline" in inspect.signature(function).parameters else {}))


@cache
def settings(name: str) -> dict[str, Any]:
    """A method's own settings and their defaults. Raises UsageError as `get` does; imports nothing."""
    path = Path(__file__).with_name(f"{_stem(name)}.py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if any(isinstance(target, ast.Name) and target.id == "SETTINGS" for target in targets):
            return dict(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return {}


def owners(key: str) -> list[str]:
    """The methods that have a setting of this name."""
    return [name for name in names() if key in settings(name)]


def _stem(name: str) -> str:
    if name not in names():
        raise UsageError(f"unknown training step '{name}'", hint=did_you_mean(name, names()) or "steps: " + ", ".join(names()))
    return name.replace("-", "_")
