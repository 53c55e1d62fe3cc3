"""Separability: do planes in a generator's latent space divide the attributes of its pictures? (Karras 2019, arXiv:1812.04948, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KIND = "latents"
ALIASES = ("linear-separability",)
KEYS = {
    "separability": "exp of the sum over the attributes of H(Y|X), Y the classifier's answer and X the plane's; 1 is best",
    "conditional_entropy": "the sum itself, in nats",
}
LOWER = ("separability", "conditional_entropy")
SAMPLES = 200_000  # the paper's, of which half are kept


@dataclass(frozen=True)
class Attribute:
    """rows: which samples were kept. answer: the classifier's, bool; side: of the plane, bool; both of these rows."""

    rows: np.ndarray
    answer: np.ndarray
    side: np.ndarray

    def entropy(self, weights: np.ndarray | None = None) -> float:
        """H(Y|X) in nats, in [0, ln 2]; nan where nothing has weight."""
        w = np.ones(len(self.rows)) if weights is None else weights[self.rows]
        table = np.array([[w[(self.side == x) & (self.answer == y)].sum() for y in (False, True)] for x in (False, True)])
        total, sides = table.sum(), table.sum(1, keepdims=True)
        if not total > 0:
            return float("nan")
        there = table > 0
        return abs(float(-(table[there] * np.log((table / np.where(sides > 0, sides, 1))[there])).sum() / total))


def attribute(latents: np.ndarray, probability: np.ndarray, *, keep: float = 0.5, c: float = 1.0, seed: int = 0) -> Attribute:
    """Latents N D, and of each sample's picture the probability N of the attribute, by a classifier.

    The share `keep` of the samples about which the classifier is surest stays (200,000 -> 100,000 in the paper); a linear SVM learns its answers from
    the latents. Raises ValueError for one answer only.
    """
    from sklearn.svm import LinearSVC

    if not 0 < keep <= 1:
        raise ValueError(f"the share of samples that are kept lies in (0, 1], not {keep}")
    sure = np.argsort(-np.abs(probability - 0.5).round(12), kind="stable")  # rounded: 0.05 and 0.95 are as sure as each other
    rows = np.sort(sure[: max(1, int(np.ceil(keep * len(sure))))])
    answer = probability[rows] > 0.5
    if answer.all() or not answer.any():
        raise ValueError("the classifier gives all samples that are kept the same answer: there is nothing to divide")
    x = latents[rows]
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-12)  # the plane's sides do not depend on it, and the search is faster
    side = LinearSVC(C=c, random_state=seed, dual="auto").fit(x, answer).predict(x).astype(bool)
    return Attribute(rows, answer, side)


def total(entropies: np.ndarray) -> dict[str, float]:
    """Of all attributes: exp(sum H) (the aggregate is the paper's; the text that names the metric lacks it)."""
    whole = float(np.sum(entropies))
    return {"separability": float(np.exp(whole)), "conditional_entropy": whole}
