"""Recipes: every setting of a run, from four layers; and recipe.toml, which says all of it.

A model's `RECIPE` holds what its paper says, with a table `variants` for the ones that differ. Over it lie the config file, the environment and the
command line. A value keeps the type of its default.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cvtool import registry
from cvtool.errors import InputError, ModelError, UsageError, did_you_mean
from cvtool.train import arguments
from cvtool.train.optim import MOMENTUM

DEFAULTS: dict[str, Any] = {
    "accumulate": 1,  # batches an optimiser's turn
    "augment": "none",  # names joined by commas
    "batch_size": 8,
    "cache": "auto",  # memory for decoded pictures: auto, none, or a size such as 2GB
    "channels_last": False,
    "clip": 10.0,  # largest gradient norm, 0 = none
    "deterministic": False,
    "ema": 0.0,  # decay of the weights' moving average, 0 = none
    "epochs": 20,
    "img_size": 0,  # 0 = the model's own
    "init": "",  # a reference whose weights are the start
    "lr": 1e-3,
    "momentum": 0.9,
    "optimizer": "adamw",
    "precision": "fp32",
    "save_every": 1,  # epochs
    "schedule": "cosine",
    "seed": 0,
    "step": "supervised",
    "steps": 0,  # optimiser turns at most, 0 = no limit
    "val_every": 1,  # epochs
    "warmup": 0.0,  # below 1 a fraction of the run, from 1 on epochs
    "weight_decay": 0.01,
}
_LEAST = {"accumulate": 1, "batch_size": 1, "epochs": 1, "save_every": 1, "val_every": 1, "lr": 0, "clip": 0, "ema": 0, "img_size": 0, "steps": 0,
          "seed": 0, "warmup": 0, "weight_decay": 0, "momentum": 0}  # fmt: skip
RESUMABLE = ("epochs", "steps", "save_every", "val_every", "cache")  # what a resumed run may change


def of_model(recipe: Mapping[str, Any], variant: str | None) -> dict[str, Any]:
    """A model file's RECIPE for one of its variants."""
    own = recipe.get("variants", {}).get(variant or "", {})
    return {key: value for key, value in {**recipe, **own}.items() if key != "variants"}


def resolve(*layers: Mapping[str, Any], defaults: Mapping[str, Any] = DEFAULTS) -> dict[str, Any]:
    """All settings; later layers win. Raises UsageError for an unknown key (with a suggestion) or a value of the wrong kind."""
    found = dict(defaults)
    for layer in layers:
        for key, value in layer.items():
            if key not in defaults:
                raise UsageError(f"unknown setting '{key}'", hint=did_you_mean(key, defaults) or "settings: " + ", ".join(defaults))
            found[key] = checked(key, value, type(defaults[key]))
    return found


def checked(key: str, value: Any, kind: Any) -> Any:
    """The value in the kind of its default, if it says the same there. Raises UsageError."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind in (int, float) and isinstance(value, str):  # `.5` is no TOML
        with suppress(ValueError):
            value = kind(value)
    if kind is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if type(value) is not kind or (kind is float and value - value != 0):
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise UsageError(f"{key} is {words[kind]}, not {value!r}")
    if key in _LEAST and value < _LEAST[key]:
        raise UsageError(f"{key} is at least {_LEAST[key]}, not {value}")
    if key == "ema" and value >= 1:
        raise UsageError(f"ema is a decay below 1, such as 0.999, not {value}")
    return value


def built_with(changes: Mapping[str, Any], takes: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Arguments of a model's construction, checked against those it takes (keyword -> default). Raises UsageError."""
    for key in changes:
        if key not in takes:
            everything = [*DEFAULTS, *takes]
            own = f"; {name} takes {', '.join(takes)}" if takes else ""
            hint = did_you_mean(key, everything) or "settings: " + ", ".join(DEFAULTS) + own
            raise UsageError(f"unknown setting '{key}'", hint=hint)
    return {key: arguments.checked(key, value, takes[key]) for key, value in changes.items()}


DATA = ("data", "data_val", "data_format", "images", "split", "split_val")
_LOCAL = ("data", "data_val", "images")  # paths
_OFF = {"steps": 0, "img_size": 0, "init": ""}  # what is not set is not written: these options take no such value


@dataclass
class Plan:
    """A run before it starts. As TOML it is a config file of `cvtool train`: one key an option or setting.

    data: some of `DATA`, as typed. arguments: of the model's construction, where they differ from its variant's. made: how it came about
    (command, folder it was typed in, versions); nothing depends on it but the folder, under which relative paths are looked up when the run
    is resumed from somewhere else. asked: settings that must have an effect, because someone typed them for this run; not written.
    """

    model: str
    data: dict[str, str]
    recipe: dict[str, Any]
    made: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()

    def to_toml(self) -> str:
        recipe = {key: value for key, value in self.recipe.items() if key not in _OFF or value != _OFF[key]}
        if recipe["optimizer"] not in MOMENTUM:  # it would be refused, as everything is that has no effect
            del recipe["momentum"]
        return toml({"model": self.model} | self.data | recipe | self.arguments | ({"made": self.made} if self.made else {}))

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Raises InputError for a file that is no recipe of a run."""
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
            model, made = values.pop("model"), values.pop("made", {})
            data = {key: values.pop(key) for key in DATA if key in values}
            changes = {key: values.pop(key) for key in list(values) if key not in DEFAULTS}
            if changes:
                reference = registry.parse(model)
                changes = built_with(changes, arguments.known(reference.entry, reference.variant), reference.name)
            return cls(model, data, resolve(values), made, changes)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, UsageError, ModelError) as error:
            raise InputError(f"this is not a run's recipe: {str(error).splitlines()[0]}", where=path) from error

    def located(self) -> dict[str, str]:
        """`data` with paths that can be opened from here."""
        return {key: self.find(value) if key in _LOCAL else value for key, value in self.data.items()}

    def find(self, path: str) -> str:
        """A path as it was typed, from here or from where it was typed."""
        other = Path(self.made.get("folder", "."), path)
        return str(other) if not Path(path).exists() and other.exists() else path


def toml(values: Mapping[str, Any]) -> str:
    """Text, numbers, booleans, lists of them, and tables one level deep, as TOML. None is left out."""
    plain = [f"{key} = {_value(value)}" for key, value in values.items() if value is not None and not isinstance(value, Mapping)]
    tables = [
        f"\n[{name}]\n" + "\n".join(f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None)
        for name, table in values.items()
        if isinstance(table, Mapping)
    ]
    return "\n".join([*plain, *tables]) + "\n"


def _key(text: str) -> str:
    return text if text.replace("_", "").replace("-", "").isalnum() and text.isascii() else _value(text)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in text) + '"'
