"""Gates: `AP>=0.40`, `per_class.person.AP50 > 0.6`; what a report must hold for a job to go on. A gate whose figure is not there has failed.

    GATE = KEY OP NUMBER      OP: >= <= > < ==

A key may hold dots, blanks, @ and =. It is looked up in the report's `metrics`, in its slices (`slices.KEY.VALUE.METRIC`) and in its counts
(`counts.images`). Standard library only.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cvtool.errors import UsageError

OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_GATE = re.compile(rf"\s*(.+?)\s*(>=|<=|==|>|<)\s*({_NUMBER})\s*")


@dataclass(frozen=True)
class Gate:
    """One condition. text: as it was typed."""

    text: str
    key: str
    operator: str
    number: float


@dataclass(frozen=True)
class Limit:
    """The largest drop allowed; key: None is the primary metric."""

    text: str
    key: str | None
    drop: float


def gate(text: str) -> Gate:
    """Raises UsageError for what is no KEY OP NUMBER."""
    match = _GATE.fullmatch(text)
    if match is None or match[1].endswith(("=", "<", ">", "!")):
        hint = "KEY OP NUMBER, such as 'AP>=0.40'; OP is >= <= > < or ==, the number a plain one"
        if re.search(rf"[^<>=]=\s*{_NUMBER}\s*$", text):
            hint = f"equality is ==: '{re.sub(r'=', '==', text[::-1], count=1)[::-1]}'"
        raise UsageError(f"--gate '{text}' is no condition", hint=hint)
    return Gate(text.strip(), match[1], match[2], float(match[3]))


def limit(text: str | float) -> Limit:
    """`0.005` or `AP50=0.01`. Raises UsageError."""
    words = str(text).strip()
    key, _, number = words.rpartition("=")
    if not re.fullmatch(_NUMBER, number.strip()) or float(number) < 0 or (words.startswith("=") and not key):
        raise UsageError(f"--max-drop '{words}' is no drop", hint="a number that is not negative, 0.005 (of the main metric) or AP50=0.01")
    return Limit(words, key.strip() or None, float(number))


def figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """All that gates can name: key -> number or None."""
    found = dict(report["metrics"])
    for key, values in report.get("slices", {}).items():
        for value, row in values.items():
            found |= {f"slices.{key}.{value}.{name}": number for name, number in row.items()}
    counts = report.get("counts", {})
    return found | {f"counts.{key}": value for key, value in counts.items() if isinstance(value, (int, float))}


def verdicts(gates: Sequence[Gate], report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each gate: gate, key, value (None: not there), passed, why (words), and unknown where the report has no such key."""
    known = figures(report)
    rows = []
    for each in gates:
        value = known.get(each.key)
        passed = False
        if each.key not in known:
            near = _nearest(each.key, known) or f"there are {', '.join(list(known)[:8])}{', ...' if len(known) > 8 else ''}"
            why = f"the report has no '{each.key}': {near}"
        elif value is None or not math.isfinite(value):
            why = f"{each.key} was not measured (null)"
            value = None
        else:
            passed = OPERATORS[each.operator](value, each.number)
            why = f"{each.key} is {value:.6g}"
        row = {"gate": each.text, "key": each.key, "value": value, "passed": passed, "why": why}
        rows.append(row if each.key in known else row | {"unknown": True})
    return rows


def _nearest(key: str, known: Mapping[str, Any]) -> str | None:
    """Capitals count little: `ap50` is AP50."""
    from difflib import get_close_matches

    spelled = {name.lower(): name for name in known}
    close = get_close_matches(key.lower(), spelled, n=3, cutoff=0.55)
    return "did you mean " + " or ".join(spelled[name] for name in close) + "?" if close else None
