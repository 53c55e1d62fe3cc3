"""The metrics of parts of a data set: of the pictures that share a value of some key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cvtool.errors import UsageError, did_you_mean
from cvtool.tasks.evaluation._measured import Measured

MANY = 100  # values of one key; a key with more is a name, not a division
_OWN = ("annotations", "segmentation", "labels", "made_by")


def sliced(measured: Measured, keys: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """key -> value -> the metrics of the units that have it, and `units`, how many these are. Units without the key are `(none)`.

    A key with dots reaches into nested objects. Raises UsageError for a key that no unit has, and for one that divides nothing.
    """
    if not measured.attributes or (measured.statistic is None and measured.many is None):
        raise UsageError("--slice has no effect: these metrics cannot be divided by the ground truth's pictures")
    found = {}
    for key in dict.fromkeys(keys):
        values = [_value(unit, key) for unit in measured.attributes]
        if all(value is None for value in values):
            known = sorted({name for unit in measured.attributes for name in unit if name not in _OWN})
            raise UsageError(
                f"--slice {key}: no picture of the ground truth has it", hint=did_you_mean(key, known) or f"there are {', '.join(known)}"
            )
        groups = sorted({"(none)" if value is None else value for value in values})
        if len(groups) > MANY:
            raise UsageError(f"--slice {key}: {len(groups):,} different values", hint=f"a slice is of many pictures; {MANY} values at most")
        masks = np.array([[("(none)" if value is None else value) == group for value in values] for group in groups], np.float64)
        figures = measured.weighted(masks)
        rows = [{name: float(column[i]) for name, column in figures.items()} for i in range(len(groups))]
        found[key] = {group: {"units": int(mask.sum()), **row} for group, mask, row in zip(groups, masks, rows, strict=True)}
    return found


def _value(unit: Mapping[str, Any], key: str) -> str | None:
    """As text: numbers, words, true and false; None where there is none."""
    value: Any = unit.get(key)
    if value is None and "." in key:
        value = unit
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    if value is None or isinstance(value, (dict, list)):
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)
