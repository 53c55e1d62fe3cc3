"""k nearest neighbours: the class of most of the k training pictures that lie nearest (Cover 1967, doi:10.1109/TIT.1967.1053964).

Nothing is learned, all is kept; its weakness is the distance: a picture shifted by one pixel lies far from itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cvtool.errors import UsageError
from cvtool.models.classify._fitted import Features, Fitted

VARIANTS = {"pixels": {"features": "pixels"}, "handcrafted": {"features": "handcrafted"}, "tiny": {"features": "pixels", "image_size": 8, "k": 1}}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"nearest-neighbor": "pixels"}
RECIPE: dict[str, object] = {}
POWERS = {"l1": 1.0, "l2": 2.0}
BLOCK = 1 << 24  # distances at a time


class Knn(Fitted):
    """scores are shares of the k votes; between classes of equal votes the first one counts, as in scikit-learn."""

    learned = ("rows", "labels")

    def __init__(self, classes: int, features: Features, *, k: int, distance: str) -> None:
        super().__init__(classes, features)
        self.classes, self.k, self.power = classes, k, POWERS[distance]

    def learn(self, x: Tensor, y: Tensor, seed: int) -> None:
        if self.k > len(x):
            raise UsageError(f"k={self.k} neighbours of {len(x)} pictures", hint="a smaller --k")
        self.rows, self.labels = x, y

    def neighbours(self, x: Tensor) -> Tensor:
        """B D -> B k: which rows are nearest, nearest first; of equal distances the earlier row."""
        step = max(1, BLOCK // max(1, len(self.rows)))
        # not by matrix products, whose rounding would put a copy of a row at a distance
        found = [
            torch.cdist(part, self.rows, self.power, "donot_use_mm_for_euclid_dist").sort(stable=True).indices[:, : self.k] for part in x.split(step)
        ]
        return torch.cat(found)

    def scores(self, x: Tensor) -> Tensor:
        return F.one_hot(self.labels.long()[self.neighbours(x)], self.classes).float().mean(1)


def build(
    *, classes: int, features: str = "pixels", network: str = "", image_size: int = 32, components: int = 0, k: int = 5, distance: str = "l2"
) -> Knn:
    """k: votes; 1 is the nearest-neighbour classifier. distance: l1 or l2. Raises UsageError for others."""
    if k < 1 or distance not in POWERS:
        raise UsageError(f"k={k}, distance={distance}: k is at least 1, the distance l1 or l2")
    return Knn(classes, Features(features, network=network, image_size=image_size, components=components), k=k, distance=distance)
