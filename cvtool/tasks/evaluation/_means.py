"""Metrics that are means over the units: the whole from its parts, under any weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from cvtool import metrics as registered
from cvtool.calls import Call
from cvtool.errors import InputError, UsageError

Values = dict[str, np.ndarray]


def mean(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The mean of N values, nan (nothing to measure) left out; weights: how often each counts. nan where nothing is left."""
    there = ~np.isnan(values) if weights is None else ~np.isnan(values) & (weights > 0)
    if not there.any():
        return float("nan")
    return float(values[there].mean()) if weights is None else float(weights[there] @ values[there] / weights[there].sum())


def means(values: Values) -> dict[str, float]:
    """Of every key the mean over the units, nan where no unit has one."""
    return {key: mean(one) for key, one in values.items()}


def weighted(values: Values) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """B N weights -> of every key the B weighted means."""

    def many(weights: np.ndarray) -> dict[str, np.ndarray]:
        found = {}
        for key, one in values.items():
            there = ~np.isnan(one)
            if not np.isfinite(one[there]).all():  # 0 times infinity is none of our sums
                found[key] = np.array([mean(one, row) for row in weights])
                continue
            total = weights[:, there].sum(1)
            with np.errstate(invalid="ignore", divide="ignore"):
                found[key] = np.where(total > 0, weights[:, there] @ one[there] / total, np.nan)
        return found

    return many


def single(many: Callable[[np.ndarray], dict[str, np.ndarray]]) -> Callable[[np.ndarray], dict[str, float]]:
    """The statistic of one weighting from that of several."""
    return lambda weights: {key: float(value[0]) for key, value in many(np.asarray(weights)[None]).items()}


def lower_of(calls: Sequence[Call], keys: Sequence[str]) -> tuple[str, ...]:
    """Those of the keys that are better when they are less, as the metrics say."""
    less = {key for call in calls for key in registered.find(call.name).lower}
    return tuple(key for key in keys if key in less)


def infinite(values: Values, names: Sequence[str]) -> list[str]:
    """A line for every key that is infinite for some unit, whose mean then is none."""
    lines = []
    for key, one in values.items():
        if (rows := np.flatnonzero(np.isinf(one))).size:
            some = ", ".join(names[row] for row in rows[:3]) + (", ..." if rows.size > 3 else "")
            lines.append(f"{key} is infinite for {rows.size:,} of {len(one):,} ({some}), and so is its mean (null in the report)")
    return lines


@contextmanager
def asked_of(call: Call, where: object = None) -> Iterator[None]:
    """What a metric cannot do with its numbers or arguments, in a line that names it; with `where` it is the input's fault."""
    try:
        yield
    except ValueError as error:
        if where is not None:
            raise InputError(f"{call.name}: {error}", where=where) from error
        raise UsageError(f"--metric {call}: {error}") from error
