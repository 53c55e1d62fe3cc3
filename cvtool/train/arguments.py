"""What a model file's `build` may be told in training: read from its source text, so that a wrong option costs no import."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cvtool.errors import UsageError
from cvtool.registry import Entry

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", tuple: "a list", list: "a list"}


def known(entry: Entry | None, variant: str | None = None) -> dict[str, Any]:
    """Keyword -> its value in this variant (None where it has none): those of `build`, and those of any variant. `classes` is the data's affair."""
    if entry is None:
        return {}
    found: dict[str, Any] = {key: None for values in entry.variants.values() for key in values}
    for node in ast.parse(entry.path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == "build":
            a = node.args
            names = [*a.posonlyargs, *a.args, *a.kwonlyargs]
            defaults = [*[None] * (len(a.posonlyargs) + len(a.args) - len(a.defaults)), *a.defaults, *a.kw_defaults]
            found |= {name.arg: _literal(default) for name, default in zip(names, defaults, strict=True)}
    found |= entry.variants.get(variant or "", {})
    found.pop("classes", None)
    return found


def _literal(node: ast.expr | None) -> Any:
    with suppress(ValueError):
        return None if node is None else ast.literal_eval(node)
    return None


def checked(key: str, value: Any, default: Any) -> Any:
    """The value, if it is of the default's kind (text that reads as a number is one). Raises UsageError."""
    if isinstance(value, Mapping) or value is None:
        raise UsageError(f"{key} is not {value!r}", hint="text, a number, true, false or a list")
    kind = type(default)
    if default is None or kind not in _WORDS:
        return value
    if isinstance(value, str) and kind in (int, float):
        with suppress(ValueError):
            value = kind(value)
    if kind is float and type(value) is int:
        value = float(value)
    if kind is str and type(value) in (int, float):
        value = str(value)
    if kind in (tuple, list) and type(value) in (str, int, float):  # 1,2,7,2 as it is typed
        value = [_element(item) for item in str(value).split(",")]
    fits = isinstance(value, (list, tuple)) if kind in (tuple, list) else type(value) is kind and value == value
    if not fits:
        raise UsageError(f"{key} is {_WORDS[kind]}, not {value!r}")
    return value


def _element(text: str) -> Any:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text.strip()
