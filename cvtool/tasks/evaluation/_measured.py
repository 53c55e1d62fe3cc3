"""What an evaluation measured: the numbers, and what resampling, slices and comparison need of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cvtool import __version__
from cvtool.tasks.evaluation._page import Page


@dataclass
class Measured:
    """The numbers of one evaluation, and how each unit (picture, word, query, pair) contributes to them.

    metrics: flat keys, None where there is nothing to measure. units: the names of the N units, in order. statistic: how often each unit counts (N
    weights, whole numbers or 0/1 masks) -> the same flat metrics, nan where nothing is left to measure; of ones it gives `metrics`. None where
    single units do not add up to the metrics. many: the same of several weightings at once, B N -> B values a key; made of `statistic` where absent.
    per_unit: N values a metric (nan: none), for the worst pictures. attributes: of each unit the facts by which `--slice` divides them.
    about: what the report says behind the task. extra: further parts of the report, as JSON can hold them. lower: the keys where less is better.
    primary: the key that `--max-drop` means. page: what the HTML report can show of single units.
    """

    task: str
    metrics: dict[str, float | None]
    units: list[str] = field(default_factory=list)
    statistic: Callable[[np.ndarray], dict[str, float]] | None = None
    many: Callable[[np.ndarray], dict[str, np.ndarray]] | None = None
    per_unit: Mapping[str, np.ndarray] = field(default_factory=dict)
    attributes: Sequence[Mapping[str, Any]] = ()
    per_class: dict[str, dict[str, Any]] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    matching: str = ""
    warnings: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    backend: str | None = None
    lower: tuple[str, ...] = ()
    primary: str | None = None
    page: Page | None = None

    def weighted(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """The metrics of several weightings, B N -> B float64 a key. Raises ValueError where there is no statistic."""
        if self.many is not None:
            return self.many(weights)
        if self.statistic is None:
            raise ValueError("these metrics are no statistic of single units")
        rows = [self.statistic(row) for row in weights]
        return {key: np.array([_number(row.get(key)) for row in rows]) for key in self.metrics}


class Lazy(Mapping[str, np.ndarray]):
    """Values of each unit that are computed when somebody asks for them."""

    def __init__(self, make: Callable[[], dict[str, np.ndarray]]) -> None:
        self._make = make
        self._made: dict[str, np.ndarray] | None = None

    def _all(self) -> dict[str, np.ndarray]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def __getitem__(self, key: str) -> np.ndarray:
        return self._all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def report(measured: Measured) -> dict[str, Any]:
    """The report as JSON holds it: numbers that are none are null, numbers of numpy are plain ones."""
    metrics = dict(measured.metrics)
    metrics |= {f"per_class.{name}.{key}": value for name, row in measured.per_class.items() for key, value in row.items()}
    parts: dict[str, Any] = {"task": measured.task, **measured.about, "metrics": metrics}
    if measured.per_class:
        parts["per_class"] = measured.per_class
    parts |= measured.extra
    parts |= {"params": measured.params, "counts": measured.counts, "matching": measured.matching, "warnings": measured.warnings}
    if measured.backend is not None:
        parts["backend"] = measured.backend
    return {**plain(parts), "cvtool": __version__}


def plain(value: Any) -> Any:
    """What JSON can hold: nan and infinity become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
