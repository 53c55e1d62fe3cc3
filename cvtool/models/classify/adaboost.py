"""AdaBoost: many decision stumps, each barely better than chance, vote (Freund 1997, doi:10.1006/jcss.1997.1504).

One strong classifier a class against the rest; `ops/adaboost.py` holds the rounds.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool.errors import UsageError
from cvtool.models.classify._fitted import Features, Fitted
from cvtool.ops.adaboost import adaboost

VARIANTS = {
    "handcrafted": {"features": "handcrafted"},
    "pixels": {"features": "pixels", "image_size": 16},
    "tiny": {"features": "pixels", "image_size": 4, "rounds": 5},
}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
RECIPE: dict[str, object] = {}


class AdaBoost(Fitted):
    """stumps: K T 4 (feature, threshold, polarity, vote), zeros where a class needed fewer rounds."""

    learned = ("stumps",)

    def __init__(self, classes: int, features: Features, *, rounds: int) -> None:
        super().__init__(classes, features)
        self.classes, self.rounds = classes, rounds

    def learn(self, x: Tensor, y: Tensor, seed: int) -> None:
        rows, labels = x.double().numpy(), y.numpy()
        table = np.zeros((self.classes, self.rounds, 4))
        for label in range(self.classes):
            signs = np.where(labels == label, 1, -1)
            if (signs == 1).any():
                found = adaboost(rows, signs, rounds=self.rounds)
                table[label, : len(found.vote)] = np.stack([found.feature, found.threshold, found.polarity, found.vote], 1)
        self.stumps = torch.from_numpy(table).float()

    def votes(self, x: Tensor) -> Tensor:
        """B D -> B K: the sum of votes for and against, of all votes: in [-1, 1], at least 0 where the strong classifier says yes."""
        feature, threshold, polarity, vote = self.stumps.unbind(-1)  # K T each
        side = torch.where(polarity * (x[:, feature.long()] - threshold) >= 0, 1.0, -1.0)  # B K T
        total = vote.sum(1)
        return torch.where(total > 0, (side * vote).sum(-1) / total.clamp(min=1e-12), -1.0)

    def scores(self, x: Tensor) -> Tensor:
        return F.normalize((1 + self.votes(x)).clamp(min=1e-6), p=1, dim=1)


def build(
    *, classes: int, features: str = "handcrafted", network: str = "", image_size: int = 32, components: int = 0, rounds: int = 100
) -> AdaBoost:
    """rounds: stumps a class at most. Raises UsageError for fewer than one."""
    if rounds < 1:
        raise UsageError(f"rounds={rounds}: one stump a class at least")
    return AdaBoost(classes, Features(features, network=network, image_size=image_size, components=components), rounds=rounds)
