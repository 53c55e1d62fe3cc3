"""Error EDF: which share of a design space's models is better than an error? Two spaces compared (Radosavovic 2019, arXiv:1905.13214, eq. 1)."""

from __future__ import annotations

import numpy as np

KIND = "errors"
ALIASES = ("edf",)
KEYS = {
    "edf_area": "area under the empirical distribution of errors in [0, 1]: 1 less the mean error; 1 is a space without errors",
    "min_error": "the best model's error",
    "median_error": "half of the models are better",
    "better_than_gt": "chance that a model of --dt errs less than one of --gt, ties counted half",
}
LOWER = ("min_error", "median_error")


def edf(errors: np.ndarray, at: np.ndarray) -> np.ndarray:
    """F(e) = mean [e_i < e] at each of `at`: errors N, at M -> M in [0, 1]. For a space of perfect models it is a step to 1 right of 0."""
    return np.searchsorted(np.sort(np.asarray(errors)), at, side="left") / len(errors)


def chosen(errors: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The rows of `n` models drawn without replacement, or all where there are no more. Raises ValueError."""
    if n < 1:
        raise ValueError("a distribution needs a sample at least")
    return np.arange(len(errors)) if len(errors) <= n else np.sort(np.random.default_rng(seed).choice(len(errors), n, replace=False))


def curve(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of the stairs, from 0 to 1: (errors, F)."""
    x = np.sort(errors)
    steps = np.arange(len(x) + 1) / len(x)
    return np.concatenate([[0.0], np.repeat(x, 2), [1.0]]), np.repeat(steps, 2)


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The middle of values that count as often as their whole weights say: of an even number the mean of the middle two."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    half = reached[-1] / 2
    return float(values[order][[np.searchsorted(reached, half, "left"), np.searchsorted(reached, half, "right")]].mean())


def compute(true: np.ndarray, found: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
    """Errors N of one space and M of the other, in [0, 1], and how often each of the latter counts."""
    w = np.ones(len(found)) if weights is None else np.asarray(weights, float)
    if not w.sum() > 0:
        return dict.fromkeys(KEYS, float("nan"))
    ordered = np.sort(true)
    wins = len(true) - (np.searchsorted(ordered, found, side="left") + np.searchsorted(ordered, found, side="right")) / 2
    values = (1 - float(w @ found / w.sum()), float(found[w > 0].min()), weighted_median(found, w), float(w @ wins / (w.sum() * len(true))))
    return dict(zip(KEYS, values, strict=True))
