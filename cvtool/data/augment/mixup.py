"""MixUp: every picture blended with another of its batch, and their labels alike (Zhang 2018, arXiv:1710.09412)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from cvtool.batch import Batch
from cvtool.data.augment.checks import share, within
from cvtool.data.augment.mixing import extent, mixed, partners


@dataclass(frozen=True)
class MixUp:
    """x = l x1 + (1 - l) x2 and y = l y1 + (1 - l) y2 with one l ~ Beta(alpha, alpha) a batch, in `p` of the batches.

    For class labels of pictures of one size; InputError otherwise.
    """

    alpha: float = 0.2
    p: float = 1.0
    mixes = ("labels",)

    def __post_init__(self) -> None:
        within("alpha", self.alpha, 0.001, 1000)
        share("p", self.p)

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        weight, order = rng.beta(self.alpha, self.alpha), partners(len(batch), rng)
        extent(batch, "mixup")
        if rng.random() >= self.p:
            return batch
        targets = batch.targets or []
        images = torch.lerp(batch.images[order], batch.images, weight)
        return replace(batch, images=images, targets=[mixed(t, targets[j], weight) for t, j in zip(targets, order.tolist(), strict=True)])
