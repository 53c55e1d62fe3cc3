"""Bring a model up to date with new data, in one of four ways: `plan("old+new", "runs/0001", "new/", data_old="old/")`.

`new`: go on from the old model on new data; `old+new`: on both. `ensemble-new`: leave it as it is and train another of the same architecture on the
new data, `ensemble-all`: on both; old and new model then answer together, by the average of their probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cvtool import registry, weights
from cvtool.errors import UsageError, did_you_mean
from cvtool.tasks import train
from cvtool.train.recipe import Plan

WAYS = ("new", "old+new", "ensemble-new", "ensemble-all")
_WITH_OLD = ("old+new", "ensemble-all")


def plan(
    way: str, base: str, data: str | Path | None, *, data_old: str | Path | None = None, layers: Sequence[Mapping[str, Any]] = (), **options: Any
) -> Plan:
    """The training that a way consists of. options: of `train.plan`. Raises UsageError, ModelError."""
    way = way.lower().replace("_", "-")
    if way not in WAYS:
        raise UsageError(f"--update: unknown way '{way}'", hint=did_you_mean(way, WAYS) or "ways: " + ", ".join(WAYS))
    if not base:
        raise UsageError("--base is missing", hint="it names the model that new data are for, such as runs/0001")
    if (data_old is not None) != (way in _WITH_OLD):
        hint = "it learns from new data alone; old+new and ensemble-all use both" if data_old is not None else "--data-old names the old data set"
        raise UsageError(f"--update {way} {'has no use for --data-old' if data_old is not None else 'needs the old data, too'}", hint=hint)
    reference = registry.parse(base)
    model = str(reference)
    if reference.source in registry.OF_REFERENCES:
        raise UsageError(f"{base} is no single model, and only those are trained", hint="--base names one of its members")
    if way.startswith("ensemble"):
        info = weights.read_info(reference.path) if reference.path is not None else None
        other = registry.parse(info.reference.partition("@")[0]) if info else reference
        if (other.entry.verb if other.entry else "classify") != "classify":
            raise UsageError(f"--update {way} averages probabilities of classes of pictures, and {base} finds something else", hint="new or old+new")
        model = str(replace(other, weights=None))
        layers = [dict(info.arguments) if info else {}, *layers]
    return train.plan(model, data, data_old=data_old, layers=layers, **options)


def answer(way: str, base: str, run: Path) -> str:
    """The reference that stands for the model afterwards."""
    return f"ensemble:{base},{run}" if way.lower().startswith("ensemble") else str(run)
