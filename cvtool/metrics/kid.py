"""KID: kernel distance between the features of two sets, unbiased also for small ones (Binkowski 2018, arXiv:1801.01401, section 4)."""

from __future__ import annotations

import numpy as np

KIND = "sets"
ALIASES = ("kernel-inception-distance",)
KEYS = {
    "KID": "squared maximum mean discrepancy of the features with the kernel (x.y / D + 1)^3, mean over random subsets",
    "KID_std": "its deviation over the subsets",
}
LOWER = ("KID", "KID_std")


def mmd2(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate from N D and M D features; it may fall below 0."""
    x, y = (np.asarray(one, np.float64) for one in (x, y))
    n, m, d = len(x), len(y), x.shape[1]
    xx, yy, xy = ((a @ b.T / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    return float((xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1)) - 2 * xy.mean())


def compute(true: np.ndarray, found: np.ndarray, *, subsets: int = 100, size: int = 1000, seed: int = 2020) -> dict[str, float]:
    """N D and M D features -> the mean and deviation over `subsets` draws of `size` rows of each (of all rows of the smaller set at most).

    Drawn as torch-fidelity draws them, so that the numbers are the same. Raises ValueError for sets of one.
    """
    size = min(size, len(true), len(found))
    if size < 2 or subsets < 1:
        raise ValueError("KID compares pairs within a set: it needs two samples of each at least, and one subset")
    draw = np.random.RandomState(seed)  # the generator of the reference
    values = []
    for _ in range(subsets):
        rows = found[draw.choice(len(found), size, replace=False)]
        values.append(mmd2(rows, true[draw.choice(len(true), size, replace=False)]))
    return {"KID": float(np.mean(values)), "KID_std": float(np.std(values))}
