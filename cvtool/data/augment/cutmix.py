"""CutMix: a rectangle of another picture of the batch pasted in, and the labels weighted by the pixels of each (Yun 2019, arXiv:1905.04899)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cvtool.batch import Batch
from cvtool.data.augment.checks import share, within
from cvtool.data.augment.mixing import extent, mixed, partners
from cvtool.results import SemanticMap


@dataclass(frozen=True)
class CutMix:
    """A rectangle of 1 - l of the area, l ~ Beta(alpha, alpha), in the picture's shape, with its centre anywhere, clipped at the border: one a batch,
    in `p` of the batches.

    A label's weight is the true part of the pixels after clipping, not l (section 3.1). Maps of classes are pasted along. For pictures of one
    size; InputError otherwise.
    """

    alpha: float = 1.0
    p: float = 1.0
    mixes = ("labels", "semantic")

    def __post_init__(self) -> None:
        within("alpha", self.alpha, 0.001, 1000)
        share("p", self.p)

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        part, order = math.sqrt(1 - rng.beta(self.alpha, self.alpha)), partners(len(batch), rng)
        height, width = extent(batch, "cutmix")
        x, y = int(rng.integers(width)), int(rng.integers(height))
        if rng.random() >= self.p:
            return batch
        rows, cols = int(height * part), int(width * part)
        top, left = max(0, y - rows // 2), max(0, x - cols // 2)
        bottom, right = min(height, y - rows // 2 + rows), min(width, x - cols // 2 + cols)
        here = (..., slice(top, bottom), slice(left, right))
        images, old = batch.images.clone(), batch.targets or []
        images[here] = batch.images[order][here]
        kept = 1 - (bottom - top) * (right - left) / (height * width)
        targets: list[Any] = []
        for target, j in zip(old, order.tolist(), strict=True):
            if isinstance(target, SemanticMap):
                changes = {"labels": target.labels.clone()}
                changes["labels"][here] = old[j].labels[here]
                if target.weights is not None:
                    changes["weights"] = target.weights.clone()
                    changes["weights"][here] = old[j].weights[here]
                targets.append(replace(target, **changes))
            else:
                targets.append(mixed(target, old[j], kept))
        return replace(batch, images=images, targets=targets)
