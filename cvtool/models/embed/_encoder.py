"""What embedders are made of: the network of any classifier without its classes, a head, and the labels of a batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool import calls, weights
from cvtool.batch import Batch, Prepare
from cvtool.categories import numbered
from cvtool.errors import UsageError
from cvtool.layers.classifier import Classifier
from cvtool.results import Embedding


def backbone(text: str, image_size: int = 0) -> tuple[Classifier, int]:
    """An untrained classifier, such as "resnet.20" or "simple-cnn:width=64,head=gap", and how many features it has.

    What its features do not depend on, the last layer, learns nothing. image_size: of its pictures, 0 for its own. Raises UsageError, ModelError.
    """
    name, _, rest = text.partition(":")
    changes = calls.one(f"{name.partition('.')[0]}:{rest}", "backbone").kwargs if "=" in rest else {}
    model = weights.build(name if changes else text, categories=numbered(1), **changes)
    if not isinstance(model, Classifier):
        raise UsageError(f"backbone={text} is no network that classifies pictures", hint="such as backbone=resnet.20")
    if image_size:
        model.prepare = model.prepare.sized(image_size)
    size = model.prepare.size or 64
    height, width = size if isinstance(size, tuple) else (size, size)
    model.eval()
    params = [p for p in model.parameters() if p.requires_grad]
    found = model.features(torch.zeros(1, 3, height, width, device=params[0].device))
    reached = torch.autograd.grad(found.sum(), params, allow_unused=True)
    for p, grad in zip(params, reached, strict=True):
        p.requires_grad_(grad is not None)
    return model.train(), found.shape[1]


class Encoder(nn.Module):
    """Pictures to features. The tensors are those of the classifier, `net.*`: it can be the start of this, and this that of a classifier."""

    result = Embedding

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.net = classifier.net
        self.prepare: Prepare = classifier.prepare
        self._of = classifier._features

    def features(self, images: Tensor) -> Tensor:
        """B 3 H W -> B D, what stands before the classifier's last layer, with its gradient."""
        return self._of(self.net, images)

    def forward(self, images: Tensor) -> Tensor:
        """B 3 H W -> B D, the embeddings."""
        return self.features(images)

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """B D: the embeddings."""
        return self(batch.images)

    def predict(self, batch: Batch) -> list[Embedding]:
        return [Embedding(vector.float()) for vector in self.embed(batch)]


class Headed(Encoder):
    """With a linear head: B 3 H W -> B D of `dimensions`, of length 1 if `normalize`."""

    def __init__(self, classifier: Classifier, features: int, dimensions: int, *, normalize: bool) -> None:
        super().__init__(classifier)
        if dimensions < 1:
            raise UsageError(f"an embedding of {dimensions} numbers is none")
        self.head = nn.Linear(features, dimensions)
        self.normalize = normalize

    def forward(self, images: Tensor) -> Tensor:
        z = self.head(self.features(images))
        return F.normalize(z, dim=1) if self.normalize else z


def perceptron(features: int, hidden: int, out: int) -> nn.Sequential:
    """Two layers with a ReLU between, the hidden one normalised: B D -> B D'."""
    return nn.Sequential(nn.Linear(features, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out))


def identities(batch: Batch) -> Tensor:
    """B int64: whose each picture is. Raises ValueError for a picture without a label, UsageError for mixtures of several."""
    targets: list[Any] = batch.targets or []
    if len(targets) != len(batch) or any(len(t.labels) == 0 for t in targets):
        raise ValueError("what is alike is learned from one label a picture")
    if any(t.scores is not None or len(t.labels) > 1 for t in targets):
        raise UsageError("a mixture of two pictures is like neither: embeddings are not learned from it", hint="leave mixup and cutmix out")
    return torch.stack([t.labels[0] for t in targets])
