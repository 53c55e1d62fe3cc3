"""Facts that a file states about itself, read from its source text: nothing is imported to list what there is. Standard library only."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any


class NotPlainError(ValueError):
    """What should be a plain literal is none; `line` is where it stands."""

    def __init__(self, name: str, line: int) -> None:
        super().__init__(f"{name} is not a plain literal")
        self.line = line


def summary(path: Path) -> str:
    """The first line of the docstring that the file begins with."""
    with path.open(encoding="utf-8") as file:
        return file.readline().strip().strip('"').strip()


def literal(text: str, name: str, default: Any = None) -> Any:
    """The value of `name = ...` at the top level of a source text, `default` where there is none.

    Only its own lines are parsed: a whole file would cost some milliseconds each. Raises NotPlainError.
    """
    match = re.search(rf"^{name}\b(?:\s*:[^=\n]+)?\s*=\s*(.*(?:\n(?:[ \t)\]}}].*)?)*)", text, re.MULTILINE)
    if match is None:
        return default
    try:
        return ast.literal_eval(match[1].strip())
    except (ValueError, SyntaxError) as error:
        raise NotPlainError(name, text.count("\n", 0, match.start()) + 1) from error
