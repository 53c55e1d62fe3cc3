"""AdaBoost: rounds of decision stumps, each taught to mind what the ones before got wrong (Freund 1997, doi:10.1006/jcss.1997.1504).

In the form of Viola & Jones 2001 and the texts: beta = (1 - e) / e with e the weighted error; weights of what was misclassified are multiplied by
beta, all are normalised, and a stump's vote counts ln(beta). A stump says +1 where polarity * (x[feature] - threshold) >= 0, else -1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SURE = 1e-10  # an error of zero would give an endless vote


@dataclass(frozen=True)
class Stumps:
    """T weak learners. feature: T int64. threshold, polarity (+1 or -1), vote, error: T float64."""

    feature: np.ndarray
    threshold: np.ndarray
    polarity: np.ndarray
    vote: np.ndarray
    error: np.ndarray

    def say(self, x: np.ndarray) -> np.ndarray:
        """N D -> N T of +1 and -1."""
        return np.where(self.polarity * (x[:, self.feature] - self.threshold) >= 0, 1, -1)

    def decide(self, x: np.ndarray) -> np.ndarray:
        """N D -> N: the sum of votes; the strong classifier says +1 where it is >= 0."""
        return self.say(x) @ self.vote


def best_stump(x: np.ndarray, y: np.ndarray, weights: np.ndarray, order: np.ndarray | None = None) -> tuple[int, float, float, float]:
    """(feature, threshold, polarity, error) of least weighted error over all features, all thresholds between their values, both polarities.

    x: N D. y: N of +1, -1. weights: N, summing to 1. order: N D, `x.argsort(0)`, where it is known already.
    """
    order = x.argsort(0, kind="stable") if order is None else order
    ordered = np.take_along_axis(x, order, 0)
    signed = (weights * y)[order]  # N D
    positive = weights[y > 0].sum()
    # with polarity +1 and a threshold below the i-th smallest value, errors are the positives before it and the negatives from it on
    before = np.concatenate([np.zeros((1, x.shape[1])), signed.cumsum(0)])  # N + 1, D: positives minus negatives below
    errors = before + (1 - positive)
    allowed = np.ones_like(errors, bool)
    allowed[1:-1] = ordered[1:] > ordered[:-1]  # equal values cannot be parted
    up, down = np.where(allowed, errors, 2.0), np.where(allowed, 1 - errors, 2.0)
    polarity, table = (1.0, up) if up.min() <= down.min() else (-1.0, down)
    place, feature = np.unravel_index(int(table.argmin()), table.shape)
    column = ordered[:, feature]
    low = column[place - 1] if place > 0 else column[0] - 1
    high = column[place] if place < len(column) else column[-1] + 1
    return int(feature), float((low + high) / 2), polarity, float(table[place, feature])


def beta(error: float) -> float:
    """(1 - e) / e."""
    error = min(max(error, SURE), 1 - SURE)
    return (1 - error) / error


def reweigh(weights: np.ndarray, wrong: np.ndarray, error: float) -> np.ndarray:
    """Weights after a round: those of what is `wrong` (N bool) times beta, then all divided by their sum."""
    out = np.where(wrong, weights * beta(error), weights)
    return out / out.sum()


def adaboost(x: np.ndarray, y: np.ndarray, *, rounds: int = 50) -> Stumps:
    """x: N D features. y: N of +1, -1. Ends before `rounds` where no stump is better than chance, or one makes no mistake."""
    weights = np.full(len(y), 1 / len(y))
    order = x.argsort(0, kind="stable")
    found: list[tuple[int, float, float, float, float]] = []
    for _ in range(rounds):
        feature, threshold, polarity, error = best_stump(x, y, weights, order)
        if error >= 0.5:
            break
        found.append((feature, threshold, polarity, float(np.log(beta(error))), error))
        if error <= SURE:
            break
        said = np.where(polarity * (x[:, feature] - threshold) >= 0, 1, -1)
        weights = reweigh(weights, said != y, error)
    columns = np.array(found, np.float64).reshape(-1, 5).T
    return Stumps(columns[0].astype(np.int64), columns[1], columns[2], columns[3], columns[4])
