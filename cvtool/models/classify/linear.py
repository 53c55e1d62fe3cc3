"""Linear classifier: scores f = W x + b and their softmax, on pixels or any features (Cox 1958, doi:10.1111/j.2517-6161.1958.tb00292.x).

The optimum of multinomial logistic regression: cross-entropy plus `penalty` / 2 |W|^2, convex, found by scikit-learn's L-BFGS.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cvtool.errors import UsageError
from cvtool.models.classify._fitted import Features, Fitted

VARIANTS = {"pixels": {"features": "pixels"}, "handcrafted": {"features": "handcrafted"}, "tiny": {"features": "pixels", "image_size": 8}}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"logistic-regression": "pixels", "linear-probe": "pixels"}
RECIPE: dict[str, object] = {}


class Linear(Fitted):
    """weight: K D, bias: K, for features as they are (the scaling that helps the search is folded in)."""

    learned = ("weight", "bias")

    def __init__(self, classes: int, features: Features, *, penalty: float) -> None:
        super().__init__(classes, features)
        self.classes, self.penalty = classes, penalty

    def learn(self, x: Tensor, y: Tensor, seed: int) -> None:
        from sklearn.linear_model import LogisticRegression

        rows = x.double().numpy()
        mean, scale = rows.mean(0), rows.std(0).clip(min=1e-8)
        # scikit-learn weighs the sum of losses by C, we their mean by 1 / penalty; without a penalty C is endless. Of two classes it keeps the
        # difference w of the two rows alone, whose square is twice that of both, +w/2 and -w/2
        c = (2 if len(y.unique()) == 2 else 1) / (self.penalty * len(rows)) if self.penalty else np.inf
        found = LogisticRegression(C=c, max_iter=2000, tol=1e-6).fit((rows - mean) / scale, y.numpy())
        self.weight, self.bias = unfolded(found.coef_, found.intercept_, found.classes_, self.classes, mean, scale, np.log(1e-6))

    def logits(self, x: Tensor) -> Tensor:
        """B D -> B K."""
        return x @ self.weight.T + self.bias

    def scores(self, x: Tensor) -> Tensor:
        return self.logits(x).softmax(1)


def unfolded(
    weight: np.ndarray, bias: np.ndarray, present: np.ndarray, classes: int, mean: np.ndarray, scale: np.ndarray, absent: float
) -> tuple[Tensor, Tensor]:
    """What scikit-learn found for scaled features of the classes that are present, as K D and K for plain features of all.

    Two classes are one row there, whose other side is its negative. absent: the bias of a class without a picture, below all others.
    """
    if len(present) == 2 and len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    full, base = np.zeros((classes, weight.shape[1])), np.full(classes, float(bias.min() + absent))
    full[present], base[present] = weight / scale, bias - (weight / scale) @ mean
    return torch.from_numpy(full).float(), torch.from_numpy(base).float()


def build(
    *, classes: int, features: str = "pixels", network: str = "", image_size: int = 32, components: int = 0, probe_stage: str = "",
    penalty: float = 1e-3,
) -> Linear:  # fmt: skip
    """probe_stage: the part of the network whose pooled output is the features, such as layer3 (Zeiler 2013, arXiv:1311.2901, section 5.3), "" for
    what its head reads. penalty: of the squared weights of features brought to deviation 1. Raises UsageError for one below 0."""
    if penalty < 0:
        raise UsageError(f"penalty={penalty:g} is below 0", hint="0 for none, or such as 1e-3")
    found = Features(features, network=network, image_size=image_size, components=components, probe_stage=probe_stage)
    return Linear(classes, found, penalty=penalty)
