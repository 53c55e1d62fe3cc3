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
from cvtool.train import arguments, steps

DEFAULTS: dict[str, Any] = {
    "accumulate": 1,  # batches an optimiser's turn
    "augment": "none",  # names joined by commas
    "balance": "none",  # how rare classes are drawn more often
    "batch_size": 8,  # pictures, of all processes together
    "cache": "auto",  # memory for decoded pictures: auto, none, or a size such as 2GB
    "channels_last": False,
    "clip": 10.0,  # largest gradient norm, 0 = none
    "compile": False,  # the model's forward by torch.compile
    "debias": True,  # of Adam's two averages; False shows what it is for
    "deterministic": False,
    "drop_path": -1.0,  # share of residual branches left out at the last one, -1 = the model's own
    "dropout": -1.0,  # probability, -1 = the model's own
    "early_stop": 0,  # validations without a better one that end the run, 0 = none do
    "ema": 0.0,  # decay of the weights' moving average, 0 = none
    "epochs": 20,
    "final_epochs": 0,  # epochs at `final_res` after the others
    "final_res": 0,  # picture size of a last fine-tuning, 0 = none
    "freeze": "",  # parts of the model that keep their weights
    "fsdp": False,  # weights, gradients and optimiser shared out among processes
    "img_size": 0,  # 0 = the model's own
    "init": "",  # a reference whose weights are the start
    "init_bias": 0.0,
    "initializer": "",  # "" = the model's own
    "input_noise": 0.0,  # deviation of Gaussian noise on the normalised pictures
    "l1": 0.0,  # factor of the sum of the weights' absolute values
    "label_smoothing": 0.0,
    "layer_decay": 1.0,  # each layer's learning rate over that of the one behind it
    "loss": "",  # "" = the model's own
    "lr": 1e-3,
    "lr_scale": 1.0,  # learning rate of weights that were loaded, over that of fresh ones
    "momentum": 0.9,
    "optimizer": "adamw",
    "overfit": 0,  # train on so many pictures until they are known, 0 = on all
    "precision": "fp32",
    "preprocess": "",  # statistics of the training pictures, "" = the model's own
    "save_every": 1,  # epochs
    "schedule": "cosine",
    "seed": 0,
    "spectral_norm": False,
    "statistics": 0,  # optimiser turns between two looks at gradients and activations, 0 = none
    "step": "supervised",
    "steps": 0,  # optimiser turns at most, 0 = no limit
    "strict": False,  # a picture that cannot be read ends the run, else it is left out
    "sync_batch_norm": False,  # statistics over the batches of all processes
    "unfreeze": 0,  # so many stages before the head learn beside it, nothing else; 0 = as `freeze` says
    "val_every": 1,  # epochs
    "warmup": 0.0,  # below 1 a fraction of the run, from 1 on epochs
    "weight_decay": 0.01,
}
_LEAST = {
    **dict.fromkeys(("accumulate", "batch_size", "epochs", "save_every", "val_every"), 1),
    **dict.fromkeys(("clip", "early_stop", "ema", "final_epochs", "final_res", "img_size", "input_noise", "l1", "label_smoothing"), 0),
    **dict.fromkeys(("layer_decay", "lr", "lr_scale", "momentum", "overfit", "seed", "statistics", "steps", "unfreeze", "warmup", "weight_decay"), 0),
}
_BELOW_ONE = {"ema": "0.999", "label_smoothing": "0.1", "dropout": "0.5", "drop_path": "0.1"}  # with a value that is usual
RESUMABLE = ("epochs", "steps", "save_every", "val_every", "cache", "early_stop", "statistics")  # what a resumed run may change


def of_model(recipe: Mapping[str, Any], variant: str | None) -> dict[str, Any]:
    """A model file's RECIPE for one of its variants."""
    own = recipe.get("variants", {}).get(variant or "", {})
    return {key: value for key, value in {**recipe, **own}.items() if key != "variants"}


def resolve(*layers: Mapping[str, Any], defaults: Mapping[str, Any] = DEFAULTS) -> dict[str, Any]:
    """All settings, those of the training step among them; later layers win.

    Raises UsageError for an unknown key (with a suggestion), for one of another step, or a value of the wrong kind.
    """
    defaults = {**defaults, **steps.settings(step_of(*layers))}
    found = dict(defaults)
    for layer in layers:
        for key, value in layer.items():
            if key not in defaults:
                raise unknown(key, defaults)
            found[key] = checked(key, value, type(defaults[key]))
    return found


def step_of(*layers: Mapping[str, Any]) -> str:
    """The training step that the layers come to."""
    return next((str(layer["step"]) for layer in reversed(layers) if "step" in layer), DEFAULTS["step"])


def unknown(key: str, known: Mapping[str, Any], more: str = "") -> UsageError:
    """The error for a setting that is none of `known`."""
    if owners := steps.owners(key):
        return UsageError(f"{key} has no effect here: it is a setting of another training step", hint=f"it goes with --set step={owners[0]}")
    return UsageError(f"unknown setting '{key}'", hint=did_you_mean(key, known) or "settings: " + ", ".join(DEFAULTS) + more)


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
    if key in _BELOW_ONE and value >= 1:
        raise UsageError(f"{key} is below 1, such as {_BELOW_ONE[key]}, not {value}")
    if key in ("dropout", "drop_path") and value < 0 and value != -1:
        raise UsageError(f"{key} is at least 0 (or -1, for the model's own), not {value}")
    if key == "layer_decay" and not 0 < value <= 1:
        raise UsageError(f"layer_decay is above 0 and at most 1, not {value}")
    return value


def published(model: str) -> str:
    """The reference of the first weights that a publisher offers for a model without weights, or ""; what ships was trained here."""
    try:
        reference = registry.parse(model)
    except ModelError:
        return ""
    if reference.path is not None or reference.weights == "none":
        return ""
    if reference.source is not None:
        facts = registry.source(reference.source).describe(reference.name) if reference.source not in registry.OF_REFERENCES else {}
        return f"{reference.source}:{reference.name}" if any(facts.get(key) for key in ("url", "hf", "package")) else ""
    entry = reference.entry
    keys = [key for key in (entry.weights if entry else ()) if key.partition("@")[0] == reference.variant]
    return f"{reference.name}.{keys[0]}" if keys else ""


def built_with(changes: Mapping[str, Any], takes: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Arguments of a model's construction, checked against those it takes (keyword -> default). Raises UsageError."""
    for key in changes:
        if key not in takes:
            raise unknown(key, {**DEFAULTS, **takes}, f"; {name} takes {', '.join(takes)}" if takes else "")
    return {key: arguments.checked(key, value, takes[key]) for key, value in changes.items()}


DATA = ("data", "data_old", "data_val", "data_format", "images", "split", "split_val", "fold", "pretrain_synthetic")
_LOCAL = ("data", "data_old", "data_val", "images", "pretrain_synthetic")  # paths
_SAID = ("accumulate", "augment", "batch_size", "cache", "channels_last", "clip", "deterministic", "ema", "epochs", "lr", "momentum", "optimizer",
         "precision", "save_every", "schedule", "seed", "step", "val_every", "warmup", "weight_decay")  # fmt: skip
_OFF = {key: value for key, value in DEFAULTS.items() if key not in _SAID}  # what is not set is not written: most of these take no such value


@dataclass
class Plan:
    """A run before it starts. As TOML it is a config file of `cvtool train`: one key an option or setting.

    data: some of `DATA`, as typed. arguments: of the model's construction, where they differ from its variant's. made: how it came about
    (command, folder it was typed in, versions); nothing depends on it but the folder, under which relative paths are looked up when the run
    is resumed from somewhere else. asked: settings that must have an effect, because someone typed them for this run; not written.
    by_default: nobody has asked for the weights that `init` names, and the run does without where they cannot be had.
    """

    model: str
    data: dict[str, str]
    recipe: dict[str, Any]
    made: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()
    by_default: bool = False

    def to_toml(self) -> str:
        from cvtool.train import optim  # with torch, which a wrong option need not wait for

        recipe = {key: value for key, value in self.recipe.items() if key not in _OFF or value != _OFF[key]}
        for key in set(optim.KEYS) - optim.takes(recipe["optimizer"]):  # it would be refused, as everything is that has no effect
            recipe.pop(key, None)
        if not recipe.get("init") and published(self.model):
            recipe["init"] = ""  # else read again it would have them
        return toml({"model": self.model} | self.data | recipe | self.arguments | ({"made": self.made} if self.made else {}))

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Raises InputError for a file that is no recipe of a run."""
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
            model, made = values.pop("model"), values.pop("made", {})
            data = {key: values.pop(key) for key in DATA if key in values}
            own = steps.settings(step_of(values))
            changes = {key: values.pop(key) for key in list(values) if key not in DEFAULTS and key not in own}
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
