"""The percentile bootstrap over units, seeded: how far a number would move with another sample (Efron 1979, doi:10.1214/aos/1176344552)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CHUNK = 32  # weightings at a time: enough to share the work, few enough to stay in a cache


def weightings(units: int, resamples: int, seed: int, chunk: int = CHUNK) -> Iterator[np.ndarray]:
    """How often each unit is drawn in `units` draws with replacement: B N float64 whole numbers, chunk by chunk; the same for a seed."""
    draw = np.random.default_rng(seed)
    for first in range(0, resamples, chunk):
        rows = [np.bincount(draw.integers(0, units, units), minlength=units) for _ in range(min(chunk, resamples - first))]
        yield np.stack(rows).astype(np.float64)


def interval(values: np.ndarray, level: float) -> tuple[float, float]:
    """The middle `level` of the resampled values (nan left out), (nan, nan) of none."""
    known = values[~np.isnan(values)]
    if not known.size:
        return np.nan, np.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def p_value(differences: np.ndarray) -> float:
    """Two-sided: twice the share of resampled differences on the rarer side of 0, at most 1 and never 0 (Davison 1997, section 4.2); nan of none.

    One is added on both sides of the fraction, for what was measured is itself a sample.
    """
    known = differences[~np.isnan(differences)]
    if not known.size:
        return np.nan
    rarer = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (known.size + 1))
