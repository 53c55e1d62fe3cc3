"""Recall@k: queries with a picture of their class among the k nearest others (Jegou 2011, doi:10.1109/TPAMI.2010.57; Song 2016, arXiv:1511.06452)."""

from __future__ import annotations

import numpy as np

from cvtool.metrics._neighbours import Ranked

KIND = "embeddings"
ALIASES = ("recall",)
KEYS = {"recall@K": "queries with one of their class among the K nearest others"}


def values(found: Ranked, *, k: int = 1) -> dict[str, np.ndarray]:
    """`recall@k` of each query, Q of 0 and 1; nan where there is no other picture of its class. Raises ValueError for k below 1."""
    if k < 1:
        raise ValueError(f"recall@{k} looks at no neighbour")
    return {f"recall@{k}": np.where(found.relevant > 0, found.hits[:, :k].any(1), np.nan)}
