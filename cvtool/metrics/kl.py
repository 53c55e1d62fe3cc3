"""KL: Kullback-Leibler divergence of the distribution found from the true one, in nats (Kullback 1951, doi:10.1214/aoms/1177729694)."""

from __future__ import annotations

import numpy as np

KIND = "distributions"
ALIASES = ("kl-divergence", "kullback-leibler")
KEYS = {
    "KL": "KL(true || found) in nats, mean over the rows; infinite where something true was held impossible",
    "KL_reversed": "KL(found || true)",
    "cross_entropy": "of the true distribution under the one found, in nats: the true one's entropy and KL",
}
LOWER = ("KL", "KL_reversed", "cross_entropy")


def cross_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """-sum p log q in nats, ... K and ... K -> ...; infinite where q is 0 and p is not. H(p) + KL(p || q)."""
    p, q = (np.asarray(one, np.float64) for one in (p, q))
    with np.errstate(divide="ignore"):
        return np.where(p > 0, -p * np.log(np.where(p > 0, q, 1)), 0).sum(-1)


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """sum p log(p / q) in nats, ... K and ... K -> ... in [0, inf].

    KL((.5, .5) || (.05, .95)) = 0.8304 and 0.4946 the other way (a text cuts it to 0.49, and uses bits elsewhere); KL(certain || fair) = ln 2, the
    other way infinite.
    """
    p, q = (np.asarray(one, np.float64) for one in (p, q))
    with np.errstate(divide="ignore"):
        terms = np.where(p > 0, p * (np.log(np.where(p > 0, p, 1)) - np.log(np.where(p > 0, q, 1))), 0)
    return np.maximum(terms.sum(-1), 0)  # rounding alone goes below 0


def compute(true: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """N K and N K shares -> N values a key."""
    return {"KL": kl(true, found), "KL_reversed": kl(found, true), "cross_entropy": cross_entropy(true, found)}
