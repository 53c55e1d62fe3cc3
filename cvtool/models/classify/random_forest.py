"""Random forest: trees on samples drawn with replacement, splits on a few random features, averaged (Breiman 2001, doi:10.1023/A:1010933404324).

scikit-learn grows the trees; they are kept as arrays of nodes, and walking down them gives its probabilities. The variant `segment` classifies each
pixel by its surroundings (Shotton 2008, doi:10.1109/CVPR.2008.4587503, with blurred colours and gradients for features).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import IGNORE, Batch, Prepare
from cvtool.categories import Categories, numbered
from cvtool.errors import InputError, UsageError
from cvtool.models.classify._fitted import Features, Fitted
from cvtool.results import SemanticMap

VERBS = ("classify", "segment", "embed")
VARIANTS = {
    "handcrafted": {"features": "handcrafted"},
    "pixels": {"features": "pixels", "image_size": 16},
    "tree": {"features": "handcrafted", "trees": 1},
    "segment": {"segment": True, "trees": 20, "depth": 14},
    "tiny": {"features": "pixels", "image_size": 4, "trees": 5},
}
WEIGHTS: dict[str, dict] = {}
ALIASES = {"decision-tree": "tree"}
RECIPE: dict[str, object] = {}
BLURS = (1, 2, 4, 8, 16)  # pixels
SAMPLE = 200_000  # pixels that a forest is grown on


class Forest:
    """feature, left, right: T M int (feature -1 at a leaf), threshold: T M, share: T M K, of T trees of at most M nodes."""

    names = ("feature", "threshold", "left", "right", "share")

    @staticmethod
    def grow(x: np.ndarray, y: np.ndarray, *, classes: int, trees: int, depth: int, seed: int) -> dict[str, Tensor]:
        """Arrays of scikit-learn's trees. One tree alone is grown on all rows and may split on every feature: a decision tree."""
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.tree import DecisionTreeClassifier

        limit = depth or None
        if trees == 1:
            found = [DecisionTreeClassifier(max_depth=limit, random_state=seed).fit(x, y)]
            present = found[0].classes_
        else:
            forest = RandomForestClassifier(trees, max_depth=limit, max_features="sqrt", bootstrap=True, random_state=seed).fit(x, y)
            found, present = forest.estimators_, forest.classes_
        nodes = max(tree.tree_.node_count for tree in found)
        out: dict[str, Any] = {"feature": np.full((len(found), nodes), -1, np.int32), "threshold": np.zeros((len(found), nodes), np.float64)}
        out |= {name: np.zeros((len(found), nodes), np.int32) for name in ("left", "right")}
        out["share"] = np.zeros((len(found), nodes, classes), np.float32)
        for i, tree in enumerate(found):
            t, n = tree.tree_, tree.tree_.node_count
            leaf = t.children_left < 0
            out["feature"][i, :n] = np.where(leaf, -1, t.feature)
            out["threshold"][i, :n] = t.threshold
            out["left"][i, :n], out["right"][i, :n] = np.where(leaf, 0, t.children_left), np.where(leaf, 0, t.children_right)
            value = t.value[:, 0]
            out["share"][i, :n, present.astype(int)] = (value / value.sum(1, keepdims=True)).T
        return {name: torch.from_numpy(value) for name, value in out.items()}

    @staticmethod
    def shares(arrays: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """B D -> B K: each tree's share of the classes in the leaf reached, averaged. Left where x <= threshold."""
        total = x.new_zeros(len(x), arrays["share"].shape[-1])
        for feature, threshold, left, right, share in zip(*(arrays[name] for name in Forest.names), strict=True):
            node = torch.zeros(len(x), dtype=torch.int64, device=x.device)
            while bool((inner := feature[node] >= 0).any()):
                value = x.gather(1, feature[node].clamp(min=0).long()[:, None])[:, 0]
                below = value.double() <= threshold[node]
                node = torch.where(inner, torch.where(below, left[node], right[node]).long(), node)
            total += share[node]
        return total / len(arrays["feature"])


class RandomForest(Fitted):
    """Of whole pictures."""

    learned = Forest.names

    def __init__(self, classes: int, features: Features, *, trees: int, depth: int) -> None:
        super().__init__(classes, features)
        self.classes, self.trees, self.depth = classes, trees, depth

    def learn(self, x: Tensor, y: Tensor, seed: int) -> None:
        for name, value in Forest.grow(x.numpy(), y.numpy(), classes=self.classes, trees=self.trees, depth=self.depth, seed=seed).items():
            setattr(self, name, value)

    def scores(self, x: Tensor) -> Tensor:
        return Forest.shares(dict(self.named_buffers()), x)


class PixelForest(nn.Module):
    """Of pixels: colour, colour and gradient blurred at five widths, and how high in the picture it lies."""

    result = SemanticMap
    needs = ("semantic",)

    def __init__(self, classes: int, *, trees: int, depth: int, prepare: Prepare) -> None:
        super().__init__()
        self.classes, self.trees, self.depth, self.prepare = classes, trees, depth, prepare
        self.categories: Categories = numbered(classes)
        for name in Forest.names:
            self.register_buffer(name, torch.zeros(0))

    resize_for = Fitted.resize_for

    def forward(self, images: Tensor) -> Tensor:
        """B 3 H W in [0, 1] -> B D H W."""
        gray = images.mean(1, keepdim=True)
        dx, dy = gray.diff(dim=3, append=gray[..., -1:]), gray.diff(dim=2, append=gray[:, :, -1:])
        rows = torch.linspace(0, 1, images.shape[2], device=images.device).view(1, 1, -1, 1).expand_as(gray)
        maps = [images, rows]
        both = torch.cat([images, torch.hypot(dx, dy)], 1)
        for radius in BLURS:
            padded = F.pad(both, (radius,) * 4, mode="replicate")
            maps.append(F.avg_pool2d(padded, 2 * radius + 1, 1))
        return torch.cat(maps, 1)

    def fit(self, samples: Iterable[Any], *, seed: int = 0) -> None:
        """samples: `Sample`s with label maps; at most 200,000 labelled pixels are learned from, as many of each picture."""
        listed = list(samples)
        rng = np.random.default_rng(seed)
        rows, labels = [], []
        for sample in listed:
            batch = self.prepare([np.ascontiguousarray(sample.pixels)], [sample.target])
            assert batch.targets is not None
            truth = batch.targets[0].labels.flatten()
            known = (truth != IGNORE).nonzero().flatten().numpy()
            chosen = rng.permutation(known)[: max(1, SAMPLE // len(listed))]
            rows.append(self(batch.images)[0].flatten(1).T[chosen])
            labels.append(truth[chosen])
        y = torch.cat(labels) if labels else torch.zeros(0)
        if len(y.unique()) < 2:
            raise InputError("all labelled pixels are of one class: there is nothing to tell apart")
        grown = Forest.grow(torch.cat(rows).numpy(), y.numpy(), classes=self.classes, trees=self.trees, depth=self.depth, seed=seed)
        for name, value in grown.items():
            setattr(self, name, value)

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[SemanticMap]:
        """Each pixel's likeliest class and its share of the votes."""
        found = (shares.max(0) for shares in self.probabilities(batch))
        return [SemanticMap(labels, best) for best, labels in found]

    @torch.no_grad()
    def probabilities(self, batch: Batch) -> Iterator[Tensor]:
        """K H W of each picture, over the original's pixels: the classes' shares of the votes."""
        arrays = dict(self.named_buffers())
        for maps, place in zip(self(batch.images), batch.places, strict=True):
            yield place.map_back(Forest.shares(arrays, maps.flatten(1).T).T.unflatten(1, maps.shape[1:]))


def build(
    *, classes: int, features: str = "handcrafted", network: str = "", image_size: int = 32, components: int = 0, trees: int = 100, depth: int = 0,
    segment: bool = False,
) -> RandomForest | PixelForest:  # fmt: skip
    """trees: 1 is a decision tree. depth: of a tree at most, 0 for no limit. segment: classify pixels, not pictures. Raises UsageError."""
    if trees < 1 or depth < 0:
        raise UsageError(f"trees={trees}, depth={depth}: trees is 1 or more, depth 0 (no limit) or more")
    if segment:
        return PixelForest(classes, trees=trees, depth=depth, prepare=Prepare(mean=(0.0,) * 3, std=(1.0,) * 3))
    return RandomForest(classes, Features(features, network=network, image_size=image_size, components=components), trees=trees, depth=depth)
