"""Ranges of the augmentations' arguments, told in one way."""

from __future__ import annotations

import math

from cvtool.errors import UsageError


def within(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Raises UsageError unless `low` <= value <= `high`."""
    if not low <= value <= high:
        said = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise UsageError(f"{name} is {said}, not {value:g}")


def share(name: str, value: float) -> None:
    """A probability or a part of the whole: 0 to 1."""
    within(name, value, 0, 1)


def choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """One word of several."""
    if value not in known:
        raise UsageError(f"{name} is {' or '.join(known)}, not {value}")


def ordered(low: float, high: float, name: str = "range") -> None:
    """Raises UsageError for a range that begins behind its end."""
    if low > high:
        raise UsageError(f"the {name} {low:g} to {high:g} is empty")
