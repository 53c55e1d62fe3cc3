"""A classification network behind our contract: one label a picture, a loss that can be chosen, soft targets, pooled features.

Every classifier is `Classifier(net, ...)`, so that its tensors are called `net.<the paper's or publisher's name>`. What a net may add:

    auxiliary(images) -> (logits B K, {name: (weight, logits B K)})   further heads that are there for training alone; `forward` is the main one
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.categories import Categories
from cvtool.errors import ModelError
from cvtool.results import Labels, Result

if TYPE_CHECKING:
    from cvtool.losses import Criterion


class Classifier(nn.Module):
    """net: images B 3 H W -> logits B K. features: (net, images) -> B D, what stands before the last layer.

    criterion: a sum of losses of the kind "labels" (`losses.compose`), None for cross-entropy. label_smoothing: the share of a target that
    goes to the other classes (in training mode only, so that a validation's loss is that of the truth).
    """

    result: type[Result] = Labels
    criterion_kind = "labels"

    def __init__(self, net: nn.Module, *, features: Callable[[Any, Tensor], Tensor], prepare: Prepare, categories: Categories) -> None:
        super().__init__()
        self.net = net
        self.prepare = prepare
        self.categories = categories
        self.criterion: Criterion | None = None
        self.label_smoothing = 0.0
        self.fresh: list[str] = []  # tensors that were not in the weights
        self._features = features

    def forward(self, images: Tensor) -> Tensor:
        """B 3 H W, normalised -> logits B K."""
        return self.net(images)

    def logits(self, images: Tensor) -> Tensor:
        """B 3 H W -> logits B K. Raises ModelError for a network without classes."""
        if not self.categories:
            raise ModelError("the model gives features and knows no classes", hint="use `cvtool embed`, or train it on classes of your own")
        return self(images)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The criterion's terms, or `cross_entropy`; in training also those of auxiliary heads, each under its name, times its weight."""
        return self.answered(batch)[1]

    def answered(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits B K and the losses, of one pass."""
        target = self.truth(batch)
        if not (self.training and hasattr(self.net, "auxiliary")):
            logits = self.logits(batch.images)
            return logits, self.compared(logits, target)
        logits, others = self.net.auxiliary(batch.images)  # type: ignore[operator]
        losses = self.compared(logits, target)
        for name, (weight, other) in others.items():
            losses[name] = weight * torch.stack(list(self.compared(other, target).values())).sum()
        return logits, losses

    def compared(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Logits B K against targets, B int64 or B K: the criterion's terms."""
        if self.criterion is not None:
            return self.criterion(logits, target)
        return {"cross_entropy": F.cross_entropy(logits, target)}

    def truth(self, batch: Batch) -> Tensor:
        """The batch's targets: B int64, or B K weights that sum to 1 where they are mixed (`Labels.scores`) or smoothed.

        Raises ValueError for a picture with no label, and for one with several that have no weights.
        """
        targets = batch.targets or []
        if len(targets) != len(batch) or any(len(t.labels) == 0 or (t.scores is None and len(t.labels) > 1) for t in targets):
            raise ValueError("a classifier learns from exactly one label per image, or from several with weights")
        classes = len(self.categories)
        if any(t.scores is not None for t in targets):
            target = torch.zeros(len(targets), classes, device=batch.images.device)
            for row, t in zip(target, targets, strict=True):
                shares = t.scores.to(row) if t.scores is not None else torch.ones_like(t.labels, dtype=row.dtype)
                row.index_add_(0, t.labels, shares)  # a mixture may name one class twice
        else:
            target = torch.stack([t.labels[0] for t in targets])
        if self.training and self.label_smoothing:
            from cvtool.losses.label_smoothing import smooth  # losses stand over layers

            return smooth(target, classes, self.label_smoothing)
        return target

    @torch.no_grad()
    def predict(self, batch: Batch, *, conf: float | None = None, max_det: int | None = None) -> list[Labels]:
        """The `max_det` likeliest classes of each image (5 unless told), best first; those below probability `conf` are left out."""
        scores = self.logits(batch.images).float().softmax(dim=-1)  # B K
        best, labels = scores.topk(min(max_det or 5, scores.shape[-1]), dim=-1)
        results = [Labels(labels=label, scores=score) for label, score in zip(labels, best, strict=True)]
        return results if conf is None else [result[result.scores >= conf] for result in results]

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """B D: the pooled features."""
        return self.features(batch.images)

    def features(self, images: Tensor) -> Tensor:
        """B 3 H W -> B D, what stands before the last layer, with its gradient."""
        return self._features(self.net, images)
