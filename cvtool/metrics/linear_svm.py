"""Linear SVM on features: how well do a discriminator's (or any model's) features tell classes? (Radford 2015, arXiv:1511.06434, section 5.1)."""

from __future__ import annotations

import numpy as np

KIND = "embeddings"
ALIASES = ("discriminator-svm", "feature-svm")
KEYS = {"svm_accuracy": "pictures whose class a linear SVM, fitted to the features of the others, tells"}


def answers(vectors: np.ndarray, labels: np.ndarray, *, folds: int = 5, c: float = 1.0, seed: int = 0) -> np.ndarray:
    """Features N D, labels N -> N bool, whether each is told rightly by the machine that was fitted to the other folds.

    One against all, squared hinge, on features of mean 0 and deviation 1 in the fitted part. Raises ValueError for a class of fewer than `folds`.
    """
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    least = np.unique(labels, return_counts=True)[1]
    if folds < 2 or len(least) < 2 or least.min() < folds:
        raise ValueError(
            f"{folds} folds need two classes at least, each of {folds} pictures: the smallest of {len(least)} has {least.min(initial=0)}"
        )
    right = np.zeros(len(labels), bool)
    for fitted, asked in StratifiedKFold(folds, shuffle=True, random_state=seed).split(vectors, labels):
        machine = make_pipeline(StandardScaler(), LinearSVC(C=c, random_state=seed, dual="auto")).fit(vectors[fitted], labels[fitted])
        right[asked] = machine.predict(vectors[asked]) == labels[asked]
    return right
