"""EMD: earth mover's distance, the least work that turns one distribution into the other (Rubner 2000, doi:10.1023/A:1026543900054)."""

from __future__ import annotations

import numpy as np

KIND = "distributions"
ALIASES = ("earth-mover", "wasserstein")
KEYS = {"EMD": "mass times bins that it must move, mean over the rows"}
LOWER = ("EMD",)


def emd(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """... K and ... K shares over bins at 0 .. K-1, cost |i - j| -> ...: sum |P - Q| of the cumulative shares, which is the optimum in one dimension.

    A shift by k bins costs k.
    """
    return np.abs(np.cumsum(np.asarray(p, np.float64) - np.asarray(q, np.float64), -1))[..., :-1].sum(-1)


def transport(p: np.ndarray, q: np.ndarray, cost: np.ndarray) -> tuple[float, np.ndarray]:
    """The linear program itself, for any costs: min sum C_ij P_ij over P >= 0 with sum_j P_ij = p_i and sum_i P_ij = q_j -> (work, P of N M).

    (A text swaps the two sums.) p: N, q: M, the same mass. cost: N M. Raises ValueError.
    """
    from scipy import sparse
    from scipy.optimize import linprog

    p, q, cost = (np.asarray(one, np.float64) for one in (p, q, cost))
    n, m = cost.shape
    if p.shape != (n,) or q.shape != (m,) or not np.isclose(p.sum(), q.sum(), rtol=1e-9, atol=1e-12):
        raise ValueError(f"{n} x {m} costs move {n} masses to {m} of the same sum, not {p.shape} of {p.sum():g} to {q.shape} of {q.sum():g}")
    leaving = sparse.kron(sparse.eye(n), np.ones((1, m)))
    arriving = sparse.kron(np.ones((1, n)), sparse.eye(m))
    # one of the n + m constraints follows from the others; without it rounding in the sums cannot make the program infeasible
    limits = sparse.vstack([leaving, arriving]).tocsr()[:-1]
    found = linprog(cost.ravel(), A_eq=limits, b_eq=np.concatenate([p, q])[:-1], bounds=(0, None), method="highs")
    if not found.success:
        raise ValueError(f"no plan of transport: {found.message}")
    return float(found.fun), found.x.reshape(n, m)


def compute(true: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """N K and N K shares -> N values."""
    return {"EMD": emd(true, found)}
