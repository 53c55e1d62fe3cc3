"""Entropy: how uncertain a distribution is, in bits; the mean of what its outcomes tell (Shannon 1948, doi:10.1002/j.1538-7305.1948.tb01338.x)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

KIND = "distributions"
ALIASES = ("self-information",)
KEYS = {
    "entropy": "of the distribution found, in bits (base=e: nats), mean over the rows",
    "entropy_true": "the same of the true one",
    "entropy_sampled": "entropy from samples alone, where samples=N asks for it",
    "entropy_sampled_error": "its standard error, falling with the root of N",
}


def information(p: np.ndarray | float, *, base: float = 2.0) -> np.ndarray:
    """-log p, what an outcome of probability p tells: 1 bit for 0.5, 4.3219 for 0.05 (a text cuts it to 4.31), 0.0740 for 0.95; infinite for 0."""
    with np.errstate(divide="ignore"):
        return np.abs(-np.log(np.asarray(p, np.float64)) / math.log(base))  # abs: no minus zero


def entropy(p: np.ndarray, *, base: float = 2.0) -> np.ndarray:
    """... K -> ...: the expected information, 0 log 0 being 0: 1 bit for a fair coin, 0.2864 for (0.05, 0.95) (a text: 0.28), 0 for a certainty."""
    p = np.asarray(p, np.float64)
    return np.where(p > 0, p * information(np.where(p > 0, p, 1), base=base), 0).sum(-1)


def expectation(values: np.ndarray) -> tuple[float, float]:
    """Monte Carlo: samples' values -> (their mean, its standard error s / sqrt(N))."""
    values = np.asarray(values, np.float64)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else float("nan")
    return float(values.mean()), float(error)


def sampled(
    p: np.ndarray, count: int, *, f: Callable[[np.ndarray], np.ndarray] | None = None, base: float = 2.0, seed: int = 0
) -> tuple[float, float]:
    """E_p[f] from `count` outcomes drawn from p (K), f of their numbers; without f the entropy, as the mean information. (estimate, its error.)"""
    p = np.asarray(p, np.float64)
    drawn = np.random.default_rng(seed).choice(len(p), count, p=p / p.sum())
    return expectation(information(p[drawn], base=base) if f is None else f(drawn))


def compute(true: np.ndarray, found: np.ndarray, *, base: str = "2", samples: int = 0, seed: int = 0) -> dict[str, np.ndarray]:
    """N K and N K shares -> N values a key. Raises ValueError for another base than a number above 1 or e."""
    number = math.e if base == "e" else float(base)
    if not number > 1:
        raise ValueError(f"a logarithm's base is e or a number above 1, not {base}")
    values = {"entropy": entropy(found, base=number), "entropy_true": entropy(true, base=number)}
    if samples:
        pairs = np.array([sampled(row, samples, base=number, seed=seed + i) for i, row in enumerate(found)]).reshape(-1, 2)
        values |= {"entropy_sampled": pairs[:, 0], "entropy_sampled_error": pairs[:, 1]}
    return values
