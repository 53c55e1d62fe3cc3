"""JS: Jensen-Shannon divergence, symmetric and at most ln 2 (Lin 1991, doi:10.1109/18.61115)."""

from __future__ import annotations

import numpy as np

KIND = "distributions"
ALIASES = ("jensen-shannon",)
KEYS = {"JS": "Jensen-Shannon divergence in nats, mean over the rows: 0 for equal ones, ln 2 for disjoint ones"}
LOWER = ("JS",)


def js(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2: ... K and ... K -> ... in [0, ln 2], never NaN, the same both ways to the bit.

    Computed as the mean, by m, of ln 2 - H(r), r = p / (p + q): no logarithm of 0, ln 2 exactly for disjoint ones, 0 for equal.
    """
    p, q = (np.asarray(one, np.float64) for one in (p, q))
    both = p + q
    odds = np.stack([p, q]) / np.where(both > 0, both, 1)
    uncertain = -(odds * np.log(np.where(odds > 0, odds, 1))).sum(0)  # H(r) in nats
    mass = both.sum(-1)
    share = (both * (1 - uncertain / np.log(2))).sum(-1) / np.where(mass > 0, mass, 1)
    return np.clip(share, 0, 1) * np.log(2)


def compute(true: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """N K and N K shares -> N values."""
    return {"JS": js(true, found)}
