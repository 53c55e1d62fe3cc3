"""A classification network of another library behind our contract: one label per image, softmax cross-entropy, pooled features."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.categories import Categories
from cvtool.errors import ModelError
from cvtool.results import Labels, Result


class Classifier(nn.Module):
    """net: images B 3 H W -> logits B K. features: (net, images) -> B D, what stands before the last layer."""

    result: type[Result] = Labels

    def __init__(self, net: nn.Module, *, features: Callable[[nn.Module, Tensor], Tensor], prepare: Prepare, categories: Categories) -> None:
        super().__init__()
        self.net = net
        self.prepare = prepare
        self.categories = categories
        self.fresh: list[str] = []  # tensors that were not in the weights
        self._features = features

    def forward(self, images: Tensor) -> Tensor:
        """B 3 H W, normalised -> logits B K."""
        return self.net(images)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the softmax with each image's one label (`Labels`)."""
        if batch.targets is None or any(len(target.labels) != 1 for target in batch.targets):
            raise ValueError("a classifier learns from exactly one label per image")
        labels = torch.stack([target.labels[0] for target in batch.targets])
        return {"cross_entropy": F.cross_entropy(self._logits(batch.images), labels)}

    @torch.no_grad()
    def predict(self, batch: Batch, *, conf: float | None = None, max_det: int | None = None) -> list[Labels]:
        """The `max_det` likeliest classes of each image (5 unless told), best first; those below probability `conf` are left out."""
        scores = self._logits(batch.images).float().softmax(dim=-1)  # B K
        best, labels = scores.topk(min(max_det or 5, scores.shape[-1]), dim=-1)
        results = [Labels(labels=label, scores=score) for label, score in zip(labels, best, strict=True)]
        return results if conf is None else [result[result.scores >= conf] for result in results]

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """B D: the pooled features."""
        return self._features(self.net, batch.images)

    def _logits(self, images: Tensor) -> Tensor:
        if not self.categories:
            raise ModelError("the model gives features and knows no classes", hint="use `cvtool embed`, or train it on classes of your own")
        return self(images)
