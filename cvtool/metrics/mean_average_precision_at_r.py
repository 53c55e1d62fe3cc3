"""mAP@R: precision at each hit among the R nearest, R the size of the query's class (Musgrave 2020, arXiv:2003.08505, section 3.2)."""

from __future__ import annotations

import numpy as np

from cvtool.metrics._neighbours import Ranked

KIND = "embeddings"
ALIASES = ("map", "map-at-r")
KEYS = {
    "mAP@R": "sum of the precisions at the hits among the R nearest, over R; mean over the queries",
    "R-precision": "hits among the R nearest, over R",
    "mAP@K": "the same cut at K, where map:k=K asks for it",
}


def values(found: Ranked, *, k: int = 0) -> dict[str, np.ndarray]:
    """Of each query, Q in [0, 1]; nan where there is no other picture of its class. k: look at the K nearest at most, and divide by min(R, K)."""
    hits, relevant = found.hits[:, : k or None], found.relevant
    limit = np.minimum(relevant, k) if k else relevant
    place = np.arange(1, hits.shape[1] + 1)
    counted = hits & (place <= limit[:, None])
    precision = np.cumsum(counted, 1) / place
    with np.errstate(invalid="ignore", divide="ignore"):
        average, share = (precision * counted).sum(1) / limit, counted.sum(1) / limit
    if k:
        return {f"mAP@{k}": np.where(relevant > 0, average, np.nan)}
    return {"mAP@R": np.where(relevant > 0, average, np.nan), "R-precision": np.where(relevant > 0, share, np.nan)}
