"""What --metric asks for: names, `@K`, and arguments as the metrics' own functions take them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

from cvtool import metrics as registered
from cvtool.calls import Call, bind, read
from cvtool.errors import UsageError
from cvtool.tasks.evaluation import Kind, kinds


def asked(text: str | Sequence[str | Call] | None) -> list[Call]:
    """`recall@1,map:k=5` -> calls by the names of the metrics' files, with dashes; `NAME@K` has K as its first argument. Raises UsageError."""
    words = [text] if isinstance(text, str) else list(text or ())
    found: list[Call] = []
    for word in words:
        calls = [word] if isinstance(word, Call) else read(re.sub(r"@([\d.]+):", r":\1,", re.sub(r"@([\d.]+)(?!:|[\d.])", r":\1", word)), "--metric")
        found += [Call(registered.find(call.name).name, call.args, call.kwargs) for call in calls]
    for i, call in enumerate(found):
        if call in found[:i]:
            raise UsageError(f"--metric {call} is given twice")
    return found


def kind_of(calls: Sequence[Call]) -> Kind | None:
    """The kind that all these metrics belong to, None without any. Raises UsageError for a mixture."""
    groups: dict[str, list[str]] = {}
    for call in calls:
        groups.setdefault(registered.find(call.name).kind, []).append(call.name)
    if len(groups) > 1:
        (one, mine), (other, theirs) = list(groups.items())[:2]
        hint = "measure them in two calls, for they compare different files"
        raise UsageError(f"--metric {mine[0]} is of {one} and {theirs[0]} of {other}", hint=hint)
    return kinds()[next(iter(groups))] if groups else None


def arguments(call: Call, function: Callable[..., Any]) -> dict[str, Any]:
    """The call's arguments by the names of the function's keyword-only parameters, defaults included. Raises UsageError."""
    takes = {key: p.default for key, p in inspect.signature(function).parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    return bind(call, takes, "--metric")
