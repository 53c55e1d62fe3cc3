"""What cvtool changes in the commands that Typer builds: plain help, other spellings of options, and cheap conversion of values.

Typer 0.29 converts values with pydantic, whose import doubles the time of every argument error and of every call of a warm model. Text,
numbers, flags, paths, choices and lists of those are all that our options hold, so `_Value` converts them; anything else, and any other
version of Typer, is left to Typer.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from cvtool.cli._options import SPELLINGS

_FLAGS = {**dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True), **dict.fromkeys(("0", "false", "f", "no", "n", "off", ""), False)}


def adapt(command: Any, epilog: str) -> Any:
    """Change a click command and its subcommands in place."""
    command.help = keep_examples(command.help)
    command.epilog = command.epilog or epilog
    helps = ["-h", "--help"]
    own = {"help_option_names": helps, "max_content_width": 120, "token_normalize_func": _spelling(command)}
    command.context_settings = own | (command.context_settings or {})
    for parameter in command.get_params(typer.Context(command, help_option_names=helps)):  # with the help option, which is made on demand
        descriptor = getattr(parameter, "type_descriptor", None)
        if descriptor is not None and getattr(parameter, "_runtime_param", 0) is None and (value := _Value.of(descriptor)):
            parameter._runtime_param = value
        if parameter.param_type_name == "argument" and hasattr(parameter, "display_type_rich"):
            parameter.display_type_rich = lambda ctx: ""  # "<list[str]>" tells nobody anything
    for child in getattr(command, "commands", {}).values():
        adapt(child, epilog)
    return command


def keep_examples(text: str | None, indent: int = 0) -> str | None:
    """Mark every indented block of a docstring so that help shows it as it stands (click's backspace sign).

    indent: of the code in which the docstring stands; `inspect.cleandoc` guesses it, wrongly where all but the first line is an example.
    """
    if not text:
        return None
    margin = " " * indent
    plain = "\n".join(line.removeprefix(margin) for line in text.strip().splitlines())
    return "\n\n".join("\b\n" + block if block.startswith(" ") else block for block in re.split(r"\n\s*\n", plain))


def _spelling(command: Any) -> Any:
    """A function that turns another spelling of a long option into the command's own."""
    own = {name.lstrip("-") for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}

    def normalise(token: str) -> str:
        if token in own or len(token) == 1:
            return token
        plain = token.replace("_", "-")
        target = SPELLINGS.get(plain, plain)
        return target if target in own else token

    return normalise


class _Value:
    """Converts what was typed (or stands in the environment or the config file) into a parameter's type."""

    def __init__(self, kind: Any, many: bool, least: float | None, most: float | None) -> None:
        self.kind, self.many, self.least, self.most = kind, many, least, most

    @classmethod
    def of(cls, descriptor: Any) -> _Value | None:
        """None where Typer's own conversion is needed."""
        kind, info = descriptor.annotation, descriptor.parameter_info
        many = get_origin(kind) is list
        if many:
            (kind,) = get_args(kind)
        plain = kind in (str, int, float, bool, Path) or (get_origin(kind) is Literal and all(isinstance(a, str) for a in get_args(kind)))
        special = info.parser is not None or info.exists or info.resolve_path or getattr(info, "clamp", False)
        return cls(kind, many, info.min, info.max) if plain and not special else None

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        if several or self.many:
            return [self._one(v, param, ctx) for v in (value if isinstance(value, list | tuple) else [value])]
        return self._one(value, param, ctx)

    def _one(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            done = self._convert(value)
        except (TypeError, ValueError) as error:
            raise typer.BadParameter(str(error), ctx=ctx, param=param) from None
        if (self.least is not None and done < self.least) or (self.most is not None and done > self.most):
            span = f"at least {self.least:g}" if self.most is None else f"between {self.least or 0:g} and {self.most:g}"
            raise typer.BadParameter(f"{value} is not {span}", ctx=ctx, param=param)
        return done

    def _convert(self, value: Any) -> Any:
        if get_origin(self.kind) is Literal:
            choices = get_args(self.kind)
            if (word := str(value).lower()) not in choices:
                raise ValueError(f"'{value}' is none of {', '.join(choices)}")
            return word
        if self.kind is bool:
            if isinstance(value, bool):
                return value
            if (word := str(value).strip().lower()) not in _FLAGS:
                raise ValueError(f"'{value}' is neither true nor false")
            return _FLAGS[word]
        if isinstance(value, bool) or (self.kind is int and isinstance(value, float) and not value.is_integer()):
            raise ValueError(f"'{value}' is not {_NAMES[self.kind]}")
        try:
            done = self.kind(value)
        except (TypeError, ValueError):
            raise ValueError(f"'{value}' is not {_NAMES[self.kind]}") from None
        if self.kind is float and not math.isfinite(done):
            raise ValueError(f"'{value}' is not a finite number")
        return done


_NAMES = {int: "a whole number", float: "a number", str: "text", Path: "a path"}
