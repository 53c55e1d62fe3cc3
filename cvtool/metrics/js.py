"""JS: Jensen-Shannon divergence, symmetric and at most ln 2 (Lin 1991, doi:10.1109/18.61115)."""

from __future__ import annotations

import numpy as np

KIND = "distributions"
ALIASES = ("jensen-shannon",)
KEYS = {"JS": "Jensen-Shannon divergence in nats, mean over the rows: 0 for equal ones, ln 2 for disjoint ones"}
LOWER = ("JS",)


def js(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2: ... K and ... K -> ... in [0, ln 2], never NaN, the same both ways to the bit.

    Summed as log(2 p / (p + q)), so that disjoint ones give ln 2 exactly and equal ones 0.
    """
    p, q = (np.asarray(one, np.float64) for one in (p, q))
    both = np.where(p + q > 0, p + q, 1)

    def half(one: np.ndarray) -> np.ndarray:
        return np.where(one > 0, one * np.log(np.where(one > 0, 2 * (one / both), 1)), 0).sum(-1)

    return np.clip((half(p) + half(q)) / 2, 0, np.log(2))


def compute(true: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """N K and N K shares -> N values."""
    return {"JS": js(true, found)}
