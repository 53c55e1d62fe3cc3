"""One way to name a part and its arguments: `randaugment:2,9`, `adam:debias=false`, `dice+0.5*ce`, `l1:1,adv:0.01`.

    LIST = CALL,CALL,...      CALL = NAME[:ARGUMENT,...]      ARGUMENT = number, word or key=value      SUM = [WEIGHT*]CALL+...

In a list a comma also stands between arguments; a piece that is a number or key=value belongs to the call before it, anything else begins the
next one. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cvtool.errors import UsageError

Value = str | int | float | bool
_NAME = re.compile(r"[A-Za-z][\w-]*(:[A-Za-z_]\w*)?$")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")


@dataclass(frozen=True)
class Call:
    """A name with its arguments as typed."""

    name: str
    args: tuple[Value, ...] = ()
    kwargs: dict[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        words = [*map(_said, self.args), *(f"{key}={_said(value)}" for key, value in self.kwargs.items())]
        return self.name + (":" + ",".join(words) if words else "")


def read(text: str, what: str = "option") -> list[Call]:
    """A list of calls; empty pieces are passed over. Raises UsageError."""
    pieces: list[list[str]] = []
    for piece in (word.strip() for word in text.split(",")):
        if piece and pieces and ":" in pieces[-1][0] and (_NUMBER.match(piece) or "=" in piece.partition(":")[0]):
            pieces[-1].append(piece)
        elif piece:
            pieces.append([piece])
    return [one(",".join(words), what) for words in pieces]


def one(text: str, what: str = "option") -> Call:
    """A single call; `torch:Adamax` and `timm:lamb` are names with a source, so a second colon begins their arguments. Raises UsageError."""
    name, _, rest = text.strip().partition(":")
    if name in ("torch", "timm", "v2", "torchvision"):
        inner, _, rest = rest.partition(":")
        name = f"{name}:{inner}"
    if not _NAME.match(name):
        raise UsageError(f"{what}: '{text}' is no name", hint="NAME or NAME:ARGUMENT,KEY=VALUE")
    args: list[Value] = []
    kwargs: dict[str, Value] = {}
    for word in (w.strip() for w in rest.split(",")):
        key, equals, value = word.partition("=")
        if equals:
            if key.replace("-", "_") in kwargs:
                raise UsageError(f"{what}: {key} is given twice in '{text}'")
            kwargs[key.strip().replace("-", "_")] = plain(value)
        elif word:
            if kwargs:
                raise UsageError(f"{what}: in '{text}' the argument {word} stands behind a named one")
            args.append(plain(word))
    return Call(name, tuple(args), kwargs)


def weighted(text: str, what: str = "loss") -> list[tuple[float, Call]]:
    """A sum: `dice+0.5*ce`; or a list with a weight each, `l1:1,adv:0.01`. Raises UsageError."""
    found: list[tuple[float, Call]] = []
    if "+" not in re.sub(r"\d[eE]\+", "", text) and "*" not in text and re.fullmatch(r"\s*[\w-]+:[\d.eE+-]+\s*(,\s*[\w-]+:[\d.eE+-]+\s*)*", text):
        for call in read(text, what):
            if len(call.args) != 1 or call.kwargs or isinstance(call.args[0], (str, bool)):
                raise UsageError(f"{what}: '{call}' is not NAME:WEIGHT")
            found.append((float(call.args[0]), Call(call.name)))
        return found
    for piece in re.split(r"(?<!\d[eE])\+", text):
        weight, star, rest = piece.partition("*")
        if star and not _NUMBER.match(weight.strip()):
            raise UsageError(f"{what}: '{weight.strip()}' is no weight", hint="such as dice+0.5*ce")
        found.append((float(weight) if star else 1.0, one(rest if star else piece, what)))
    return found


def bind(call: Call, takes: Mapping[str, Any], what: str = "option") -> dict[str, Any]:
    """The call's arguments by name, over the defaults `takes` (in the order of positions); kinds are those of the defaults. Raises UsageError."""
    names = list(takes)
    if len(call.args) > len(names):
        raise UsageError(f"{what}: {call.name} takes {len(names)} argument{'s' * (len(names) != 1)}: {', '.join(names) or 'none'}")
    given = dict(zip(names, call.args, strict=False))
    for key, value in call.kwargs.items():
        if key not in takes:
            raise UsageError(f"{what}: {call.name} has no argument '{key}'", hint="it takes " + (", ".join(names) or "none"))
        if key in given:
            raise UsageError(f"{what}: {key} is given twice in '{call}'")
        given[key] = value
    return {key: _kind(call, key, given[key], default, what) if key in given else default for key, default in takes.items()}


def _kind(call: Call, key: str, value: Value, default: Any, what: str) -> Any:
    kind = type(default)
    if default is None or kind is type(value):
        return value
    if kind is float and type(value) is int:
        return float(value)
    if kind is str:
        return _said(value)
    words = {int: "a whole number", float: "a number", bool: "true or false"}
    raise UsageError(f"{what}: {key} of {call.name} is {words.get(kind, kind.__name__)}, not {value}")


def plain(text: str) -> Value:
    """A number, true, false, or the text itself."""
    text = text.strip()
    if _NUMBER.match(text):
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
    return {"true": True, "false": False}.get(text.lower(), text)


def _said(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
