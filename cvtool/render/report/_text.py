"""Words and numbers as HTML holds them."""

from __future__ import annotations

import html
import re
from typing import Any


def escape(value: Any) -> str:
    """Text for an element or a quoted attribute; control characters, which HTML cannot hold, become the replacement character."""
    return html.escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", "\ufffd", str(value)), quote=True)


def number(value: Any, *, sign: bool = False) -> str:
    """Four digits behind the point of a fraction, fewer of larger numbers; whole numbers in groups of three."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    plus = "+" if sign else ""
    if isinstance(value, int):
        return f"{value:{plus},}"
    size = abs(value)
    return f"{value:{plus}.4f}" if size < 10 else f"{value:{plus}.2f}" if size < 1000 else f"{value:{plus},.0f}"


def said(value: Any) -> str:
    """A setting: lists and objects in a few words."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {said(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(said(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "–" if value is None else str(value)
