"""Teaching figures, one a file: `cvtool visualize NAME IMG` draws what an operation does on a picture. Found by looking; standard library only.

A figure's file has a docstring (its first line is its line of help), OPTIONS and `figure(picture, **options) -> PIL.Image`. OPTIONS is a plain
literal, option name -> {"default": text or whole number, "help": ..., "metavar": ...}; a default of None means that the option must be given.
A figure of numbers alone says `PICTURE = False` and is `figure(**options)`: `cvtool visualize NAME -o FIGURE.png`.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


@cache
def catalogue() -> dict[str, tuple[str, dict[str, dict[str, Any]]]]:
    """Every figure -> its line of help and its options, read as text."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        summary = (ast.get_docstring(tree) or "").partition("\n")[0]
        options: dict[str, dict[str, Any]] = {}
        for node in tree.body:
            if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == "OPTIONS" for target in node.targets):
                options = ast.literal_eval(node.value)
        found[path.stem.replace("_", "-")] = (summary, options)
    return found


@cache
def pictured(name: str) -> bool:
    """Whether the figure is drawn of a picture."""
    text = Path(__file__).with_name(f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    return not any(line.startswith("PICTURE = False") for line in text.splitlines())


def draw(name: str, picture: Any, options: dict[str, Any]) -> Any:
    """The figure of that name as a PIL image; `picture` is H W 3 uint8 RGB, or None where it takes none."""
    figure = import_module(f"{__name__}.{name.replace('-', '_')}").figure
    return figure(picture, **options) if pictured(name) else figure(**options)
