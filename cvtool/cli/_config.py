"""Options from a TOML file (-c FILE): keys are option names; at the top for every verb, under `[verb]` (or `[data.convert]`) for one.

An unknown key is an error with a suggestion. What a verb with --set does not know as an option is a setting of its recipe; such a verb asks
`rest(context)` for those.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from cvtool.errors import UsageError, did_you_mean

_REST = "cvtool.config.rest"


def apply(context: typer.Context, value: Path | None) -> Path | None:
    """The callback of --config: the file's values become the defaults of the command that is being parsed."""
    if value is None or context.resilient_parsing:
        return value
    options = {p.name: p for p in context.command.params if p.param_type_name == "option" and p.name != "config"}
    spelled = {name.lstrip("-").replace("-", "_"): key for key, p in options.items() for name in p.opts} | {key: key for key in options}
    defaults: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, setting in _keys_for(context.command_path.split()[1:], Path(value)).items():
        plain = key.replace("-", "_")
        if name := spelled.get(plain):
            several = getattr(options[name], "multiple", False) and not isinstance(setting, list)
            defaults[name] = [setting] if several else setting
        elif "set" in spelled:
            others[plain] = setting
        else:
            known = sorted({name.replace("_", "-") for name in spelled if len(name) > 1})
            hint = did_you_mean(plain.replace("_", "-"), known) or "keys: " + ", ".join(known)
            raise UsageError(f"unknown key '{key}'", where=value, hint=hint)
    context.default_map = {**(context.default_map or {}), **defaults}
    context.meta[_REST] = others
    return value


def rest(context: typer.Context) -> dict[str, Any]:
    """Keys of the config file that are no options of this verb, for verbs that take recipe settings (those with --set)."""
    return dict(context.meta.get(_REST, {}))


def _keys_for(verb: list[str], path: Path) -> dict[str, Any]:
    """What the file says to `verb`: its top level, overridden by the verb's own table; other verbs' tables are left alone."""
    import tomllib

    from cvtool.cli import verbs

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the config file: {(error.strerror or str(error)).lower()}", where=path) from error
    except UnicodeDecodeError as error:
        raise UsageError("the config file is not UTF-8 text", where=path) from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"not a TOML file: {error}", where=path) from error
    tables = verbs()
    found = {key: value for key, value in content.items() if key not in tables or not isinstance(value, dict)}
    own: Any = content
    for word in verb:
        own = own.get(word, {}) if isinstance(own, dict) else {}
    return found | own if verb and isinstance(own, dict) else found
