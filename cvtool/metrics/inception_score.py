"""Inception score: are pictures each of one class, and all together of all? In [1, C] (Salimans 2016, arXiv:1606.03498, section 4)."""

from __future__ import annotations

import numpy as np

from cvtool.metrics.entropy import entropy
from cvtool.metrics.kl import kl

KIND = "sets"
ALIASES = ("is", "isc")
KEYS = {
    "IS": "exp of the mean KL between a picture's classes and those of all, mean over the splits; from 1 to the number of classes",
    "IS_std": "its deviation over the splits",
}


def score(p: np.ndarray) -> float:
    """Shares N C of the classes p(y|x) -> exp(mean KL(p(y|x) || p(y))), p(y) the mean over the N: 1 where all are alike, C where each is certain
    and all classes are equally frequent. It sees no variety within a class, and is low for few pictures."""
    p = np.asarray(p, np.float64)
    return float(np.exp(kl(p, np.broadcast_to(p.mean(0), p.shape)).mean()))


def from_entropies(p: np.ndarray) -> float:
    """The same as a difference: exp(H(y) - mean H(y|x))."""
    p = np.asarray(p, np.float64)
    return float(np.exp(entropy(p.mean(0), base=np.e) - entropy(p, base=np.e).mean()))


def compute(p: np.ndarray, *, splits: int = 10, seed: int = 2020) -> dict[str, float]:
    """Shares N C -> the score's mean and deviation over equal parts of a shuffled set, as torch-fidelity draws them; one split: of all.

    Raises ValueError for fewer pictures than splits.
    """
    if not 1 <= splits <= len(p):
        raise ValueError(f"{len(p)} pictures do not fall into {splits} parts")
    order = np.random.RandomState(seed).permutation(len(p))  # the generator of the reference
    p = np.asarray(p)[order]
    parts = [score(p[i * len(p) // splits : (i + 1) * len(p) // splits]) for i in range(splits)]
    return {"IS": float(np.mean(parts)), "IS_std": float(np.std(parts))}
