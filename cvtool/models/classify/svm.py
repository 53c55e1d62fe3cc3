"""Linear SVM: of all planes between two classes the one with the widest margin, one against the rest (Cortes 1995, doi:10.1007/BF00994018).

Minimises |w|^2 / 2 + C sum max(0, 1 - y (w x + b)) for each class, found by scikit-learn's liblinear.
"""

from __future__ import annotations

import warnings

import numpy as np
from torch import Tensor

from cvtool.errors import UsageError
from cvtool.models.classify._fitted import Features, Fitted
from cvtool.models.classify.linear import unfolded

VARIANTS = {
    "handcrafted": {"features": "handcrafted"},
    "pixels": {"features": "pixels"},
    "tiny": {"features": "pixels", "image_size": 8},
}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"linear-svm": "handcrafted"}
RECIPE: dict[str, object] = {}


class SVM(Fitted):
    """weight: K D, bias: K. scores are a softmax of the signed margins: their order is the margins', their size no probability."""

    learned = ("weight", "bias")

    def __init__(self, classes: int, features: Features, *, c: float) -> None:
        super().__init__(classes, features)
        self.classes, self.c = classes, c

    def learn(self, x: Tensor, y: Tensor, seed: int) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC

        rows = x.double().numpy()
        mean, scale = rows.mean(0), rows.std(0).clip(min=1e-8)
        with warnings.catch_warnings():  # after so many rounds the plane moves no more that matters
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = LinearSVC(C=self.c, loss="hinge", max_iter=5000, random_state=seed).fit((rows - mean) / scale, y.numpy())
        weight, bias = np.atleast_2d(found.coef_), np.atleast_1d(found.intercept_)
        if len(found.classes_) == 2:
            weight, bias = 2 * weight, 2 * bias  # `unfolded` halves what it mirrors, and a margin is no difference of two
        self.weight, self.bias = unfolded(weight, bias, found.classes_, self.classes, mean, scale, -1e3)

    def margins(self, x: Tensor) -> Tensor:
        """B D -> B K: signed distances in units of the margin, above 0 for the class."""
        return x @ self.weight.T + self.bias

    def scores(self, x: Tensor) -> Tensor:
        return self.margins(x).softmax(1)


def build(*, classes: int, features: str = "handcrafted", network: str = "", image_size: int = 32, components: int = 0, c: float = 1.0) -> SVM:
    """c: the price of what lies inside the margin or on the wrong side. Raises UsageError for one that is not above 0."""
    if c <= 0:
        raise UsageError(f"c={c:g} is not above 0", hint="such as 1, or 0.01 for a wider margin")
    return SVM(classes, Features(features, network=network, image_size=image_size, components=components), c=c)
